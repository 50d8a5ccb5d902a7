"""A run: its recipe, data, stages and ladder."""
