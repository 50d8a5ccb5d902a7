"""Key attributes: what they are, their schema, how they are read by rules and compared."""
