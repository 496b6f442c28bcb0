"""From atoms to pixels: projected potentials, multislice, microscope, camera."""
