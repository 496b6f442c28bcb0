"""Stage `structure`: positions and occupancies of the columns of a mean image."""
