"""Values that say nothing, as `afmrl.data.missing` tells them: reading and matching ask the same question."""

from afmrl.data.missing import says_nothing

__all__ = ["says_nothing"]
