"""The nodes of the embedded world: its models, and its weights as a MODEL."""
