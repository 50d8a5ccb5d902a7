"""The attribute generator: offers to key attributes."""
