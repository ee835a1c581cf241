"""Verified trajectories as training data."""
