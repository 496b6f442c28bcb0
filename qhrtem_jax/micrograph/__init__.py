"""From the pixels of a file to an image on the crystal's lattice, on arrays alone."""
