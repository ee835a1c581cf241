"""The node that makes an executor of a MODEL, CLIP and VAE, and what it draws with."""
