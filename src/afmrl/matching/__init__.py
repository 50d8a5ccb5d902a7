"""Matching: which offers are one product."""
