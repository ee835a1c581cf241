"""A VAE that encodes and decodes in tiles, in a fraction of the memory."""

from __future__ import annotations

import torch

TILE, OVERLAP = 512, 64
"""Pixels, as ComfyUI's own nodes for tiles have them."""


class TiledVae:
    """The same VAE, in tiles. Seams are blended over OVERLAP pixels, so that pictures differ a little from those of a
    whole decode.
    """

    def __init__(self, vae) -> None:
        self.vae, self.patcher = vae, vae.patcher

    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.vae.encode_tiled(pixels, tile_x=TILE, tile_y=TILE, overlap=OVERLAP)

    def decode(self, latent: torch.Tensor) -> torch.Tensor:
        factor = self.vae.spacial_compression_decode()
        return self.vae.decode_tiled(latent, tile_x=TILE // factor, tile_y=TILE // factor, overlap=OVERLAP // factor)
