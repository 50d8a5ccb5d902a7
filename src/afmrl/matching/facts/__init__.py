"""Facts that matching reads off an offer."""
