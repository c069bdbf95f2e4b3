"""Trained models as folders: a manifest, weights, a golden input with its images, and a card.

`contract`, `manifest`, `folders`, `catalogue`, `errors` and `commands` are free of torch; `weights`, `architecture`, `golden`,
`package`, `add` and `load` are not.
"""
