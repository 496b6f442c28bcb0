"""Files: images, structures, modulation transfer functions, run folders."""
