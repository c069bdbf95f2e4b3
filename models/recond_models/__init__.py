"""Reconstructions and what belongs to them: registry, sampling, metrics, masks, simulation.

`registry`, `selection`, `model`, `contract`, `sampling`, `metrics`, `masks` and `simulate` are free of torch. `loading` makes a
model of the registry ready to run, `batch` is what goes in and comes out, `finishing` makes images of that.
"""
