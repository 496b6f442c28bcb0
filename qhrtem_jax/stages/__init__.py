"""What a user runs: simulate, imaging, structure, reconstruct, stitch."""
