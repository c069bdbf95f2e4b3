"""Reconstructions without trained weights. `recond_models.registry.load` makes them by name."""
