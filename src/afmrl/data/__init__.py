"""Offers: one, a catalog of them, its files, rows and images."""
