"""Stage `imaging`: the imaging parameters and the thickness that explain a mean image."""
