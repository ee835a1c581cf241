"""HTTP routes of the pack."""
