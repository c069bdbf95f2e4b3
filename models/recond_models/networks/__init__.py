"""Reconstruction networks. `recond_models.networks.families` builds them from what their manifests say."""
