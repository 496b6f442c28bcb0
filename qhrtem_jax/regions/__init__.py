"""Stage `reconstruct`: numbers of atoms of every column, region by region."""
