"""Bulk jobs: a catalog of any size, resumable."""
