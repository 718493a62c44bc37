"""The nouns: heads, scores, circuits, provenance. No torch."""
