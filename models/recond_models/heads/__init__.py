"""Networks that run on images: what they see, what they return."""
