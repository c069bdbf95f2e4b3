"""Training of recond's own networks on simulated k-space."""
