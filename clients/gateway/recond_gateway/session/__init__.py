"""A connection of a scanner: who speaks when, and how it ends."""
