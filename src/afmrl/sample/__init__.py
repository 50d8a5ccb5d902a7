"""The sample catalog, drawn."""
