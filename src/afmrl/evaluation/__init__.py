"""Evaluation: tasks, protocols, metrics, intervals."""
