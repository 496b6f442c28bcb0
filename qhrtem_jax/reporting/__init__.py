"""Progress, figures, tables and the report of a run."""
