"""Recipes of runs."""
