"""Image encoders that ComfyUI itself runs (CLIP Vision, SigLIP 2, DINOv2, DINOv3), for the witness of likeness."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from ...clvr_core.errors import BadInput
from ...clvr_core.protocols import Picture
from ..host.pictures import as_image


class CoreEmbedder:
    """Embeds by the CLIP_VISION that Load CLIP Vision gives."""

    def __init__(self, clip_vision: Any, digest: str) -> None:
        """Raises BadInput for a model whose kind ComfyUI does not name."""
        kind = getattr(clip_vision, "model_type", "")
        if not kind:
            raise BadInput("clip_vision of Witnesses is no image encoder of ComfyUI's; link that of Load CLIP Vision")
        self._model, self.name = clip_vision, f"{kind} {digest[:8]}"

    def embed(self, pictures: Sequence[Picture]) -> np.ndarray:
        """Return one vector of length 1 for each picture, float32 N x D."""
        # A witness looks in a thread of its own, which ComfyUI's inference mode does not reach.
        with torch.inference_mode():
            found = [self._vector(self._model.encode_image(as_image(each), crop=False)) for each in pictures]
            return torch.nn.functional.normalize(torch.stack(found), dim=-1).cpu().numpy()

    @staticmethod
    def _vector(output: Any) -> torch.Tensor:
        pooled = output["image_embeds"]
        return (output["last_hidden_state"][:, 0] if pooled is None else pooled).float().reshape(-1)
