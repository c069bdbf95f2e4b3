"""`ReconstructionService`: messages of the wire to the pipeline, its events to messages."""
