"""The embedder: offers to vectors."""
