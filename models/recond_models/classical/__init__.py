"""Reconstructions without trained weights. `recond_models.loading.load` makes them by name."""
