"""Pages: the report of a run, of an evaluation, of a comparison, of a match."""
