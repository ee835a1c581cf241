"""SAM 3 as a detector of any words: one pass of its image encoder a picture, one of the rest a name."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

WORDS = 32
"""Tokens of a name, padded, as the model was trained."""


class Sam3:
    """A SAM 3 of transformers. The picture is prepared here, since transformers' own processor needs torchvision."""

    def __init__(self, folder: Path, device: str) -> None:
        """folder: of SAM 3 as published, with or without its part for videos.

        Raises KeyError for a folder without the settings of the pictures, and what transformers raises.
        """
        import transformers

        self._model: Any = transformers.Sam3Model.from_pretrained(folder, local_files_only=True)
        self._model = self._model.to(device).eval()
        self._words: Any = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self._frame = _frame_of(folder)

    def __call__(self, image: Any, names: Sequence[str]) -> list[dict[str, Any]]:
        """image: a PIL picture. Returns label, score and box in pixels of all queries, whatever their score."""
        import torch

        if not names:
            return []
        model, scale = self._model, np.tile(image.size, 2)
        text = self._words(list(names), return_tensors="pt", padding="max_length", max_length=WORDS, truncation=True)
        found = []
        with torch.inference_mode():
            pixels = torch.from_numpy(self._pixels(image))[None].to(model.device, model.dtype)
            seen = model.vision_encoder(pixels)
            for place, name in enumerate(names):
                asked = {key: text[key][place : place + 1].to(model.device) for key in ("input_ids", "attention_mask")}
                told = model(vision_embeds=seen, **asked)
                scores = (told.pred_logits[0].sigmoid() * told.presence_logits[0].sigmoid()).float().cpu().tolist()
                boxes = told.pred_boxes[0].float().cpu().numpy() * scale
                for score, box in zip(scores, boxes.tolist()):
                    found.append(
                        {"label": name, "score": score, "box": dict(zip(("xmin", "ymin", "xmax", "ymax"), box))}
                    )
        return found

    def _pixels(self, image: Any) -> np.ndarray:
        """The picture as the model reads it, float32 3 x H x W."""
        from PIL import Image

        size = self._frame["size"]["width"], self._frame["size"]["height"]
        shown = image.convert("RGB").resize(size, Image.Resampling.BILINEAR)
        values = np.asarray(shown, np.float32) / 255
        mean, spread = (np.asarray(self._frame[key], np.float32) for key in ("image_mean", "image_std"))
        return ((values - mean) / spread).transpose(2, 0, 1)


def _frame_of(folder: Path) -> dict[str, Any]:
    """What the folder says of its pictures: size, image_mean and image_std."""
    for name in ("processor_config.json", "preprocessor_config.json"):
        if (folder / name).is_file():
            told = json.loads((folder / name).read_text("utf-8"))
            frame = told.get("image_processor", told)
            return {key: frame[key] for key in ("size", "image_mean", "image_std")}
    raise OSError(f"there is no processor_config.json in {folder}")
