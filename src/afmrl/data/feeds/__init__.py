"""Feeds as shops export them, as the rows of a catalog."""
