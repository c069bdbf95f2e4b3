"""Heads: networks that run on images, and what is measured in the label maps that they make."""
