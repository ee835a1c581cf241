"""Executors: diffusion models that draw and edit.

`docs/models.md`, "What is the same to the bit", says how far pictures repeat.
"""
