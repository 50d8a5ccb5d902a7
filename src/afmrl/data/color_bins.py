"""How pixels become a color histogram, for all that count colors."""

BINS = 6  # a channel
COLORS = BINS**3
"""Numbers of a histogram: 216."""
BACKGROUND = 235
"""Pixels whose darkest channel is above this are taken for a white background and not counted."""
