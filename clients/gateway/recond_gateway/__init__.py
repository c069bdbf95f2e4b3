"""The scanner gateway: MRD streams on one side, the service on the other, by the SDK alone."""
