"""Search of a gallery: exact, by floors without learning, fused; mining of hard negatives."""
