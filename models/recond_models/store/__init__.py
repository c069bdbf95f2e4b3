"""Trained models as folders: a manifest, weights, a golden input with its images, and a card.

`weights`, `architecture`, `golden`, `package`, `add` and `load` need torch; the others do not.
"""
