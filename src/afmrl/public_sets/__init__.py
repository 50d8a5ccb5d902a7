"""Public data sets as catalogs."""
