"""AGCL: the loss, its inputs and its batches."""
