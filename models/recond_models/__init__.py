"""Reconstructions and what belongs to them: registry, sampling, metrics, masks, simulation.

`registry`, `sampling`, `metrics`, `masks` and `simulate` are free of torch; `batch` and `classical` are not.
"""
