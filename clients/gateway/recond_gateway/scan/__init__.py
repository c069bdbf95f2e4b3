"""A scan at the gateway: what came of it, what was made of it, and what goes back."""
