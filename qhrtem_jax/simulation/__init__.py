"""Stage `simulate`: images of a table of parameters."""
