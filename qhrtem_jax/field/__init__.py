"""Stage `stitch`: the regions as one field, and its joint refinement."""
