"""Resuming a forward pass: blocks run on from a layer and a position, everything before them taken from an untouched run."""
