"""Which offers are the same product: candidates, pair scores, vetoes, calibrated probabilities, groups, reasons."""
