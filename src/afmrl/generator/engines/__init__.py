"""What runs a generator: a local model, a server, a recording."""
