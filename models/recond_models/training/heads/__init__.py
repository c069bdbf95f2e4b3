"""Training of heads: generators of labelled stacks of slices, and the trainer."""
