"""Images of a bulk job: where they come from, how they are decoded ahead."""
