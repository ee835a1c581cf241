"""The witness of likeness: how near a picture, or a part of it, is to a reference, by an embedding model of transformers.

The model is the user's: DINOv2, DINOv3, SigLIP, SigLIP 2, CLIP, or another that transformers loads with an image processor.
So is the similarity from which two pictures count as alike, since it differs from model to model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ..brief import Box, Goal
from ..errors import BadInput
from ..protocols import Picture
from ..trajectory import Finding

NAME = "likeness"
DOUBT = 0.9
"""Share of the similarity of likeness below which two pictures are not alike; between the two the witness says nothing."""
SIDE = 768
"""Pixels of the longer side of what the model is shown, at most: such models read 224 to 518."""
HALVES = tuple((x / 4, y / 4, x / 4 + 0.5, y / 4 + 0.5) for y in range(3) for x in range(3))
WHOLE: Box = (0.0, 0.0, 1.0, 1.0)


class Embedder(Protocol):
    """Makes vectors of pictures."""

    name: str

    def embed(self, pictures: Sequence[Picture]) -> np.ndarray:
        """Return one vector of length 1 for each picture, float32 N x D. pictures: uint8 H x W x 3, of any sizes."""
        ...


class LikenessWitness:
    """Compares the picture with the reference of each goal of likeness: as a whole, in nine parts of half its sides, and
    where the goal says; the nearest counts.

    alike: cosine similarity, -1..1, from which up the reference is found.
    """

    def __init__(self, embedder: Embedder, alike: float) -> None:
        if not 0 < alike < 1:
            raise BadInput(f"the similarity of likeness is {alike:g}; it must lie between 0 and 1")
        self._embedder, self._alike = embedder, alike
        self._known: dict[str, tuple[Picture, np.ndarray]] = {}

    @property
    def name(self) -> str:
        return f"{NAME} ({self._embedder.name}, from {self._alike:g})"

    def look(self, picture: Picture, goals: Sequence[Goal]) -> Mapping[str, Finding]:
        """Without references it has nothing to say."""
        return {}

    def compare(
        self, picture: Picture, goals: Sequence[Goal], references: Mapping[str, Picture]
    ) -> Mapping[str, Finding]:
        """Return, by id, what is to be said of the goals of likeness. references: by name, uint8 H x W x 3."""
        about = [goal for goal in goals if goal.kind == NAME and goal.reference in references]
        if not about:
            return {}
        boxes = list(dict.fromkeys((WHOLE, *(goal.area for goal in about if goal.area is not None), *HALVES)))
        parts = self._embedder.embed([_part(picture, box) for box in boxes])
        said = {}
        for goal in about:
            near = parts @ self._vector(goal.reference, references[goal.reference])
            kept = [place for place, box in enumerate(boxes) if goal.area is None or box in (goal.area, WHOLE)]
            best = max(kept, key=lambda place: near[place])
            found = self._finding(goal.reference, float(near[best]), boxes[best])
            if found is not None:
                said[goal.id] = found
        return said

    def nearness(self, picture: Picture, reference: Picture) -> float:
        """Return the cosine similarity of the reference and the part of the picture that is nearest to it."""
        vectors = self._embedder.embed([_part(reference, WHOLE), *(_part(picture, box) for box in (WHOLE, *HALVES))])
        return float((vectors[1:] @ vectors[0]).max())

    def _finding(self, reference: str, near: float, box: Box) -> Finding | None:
        words = f'{near:.2f} like the reference "{reference}", where {self._alike:g} is alike'
        if near >= self._alike:
            return Finding(NAME, "yes", round(min(near, 1.0), 3), words, (box,))
        if near < DOUBT * self._alike:
            return Finding(NAME, "no", round(1 - max(near, 0.0), 3), words)
        return None

    def _vector(self, name: str, picture: Picture) -> np.ndarray:
        """The vector of a reference, made once as long as it is the same picture."""
        known = self._known.get(name)
        if known is None or known[0] is not picture:
            known = self._known[name] = (picture, self._embedder.embed([_part(picture, WHOLE)])[0])
        return known[1]


def _part(picture: Picture, box: Box) -> Picture:
    from PIL import Image

    height, width = picture.shape[:2]
    left, top, right, bottom = box
    rows = slice(int(top * height), max(int(top * height) + 1, int(np.ceil(bottom * height))))
    columns = slice(int(left * width), max(int(left * width) + 1, int(np.ceil(right * width))))
    part = np.ascontiguousarray(picture[rows, columns])
    factor = -(-max(part.shape[:2]) // SIDE)
    return part if factor == 1 else np.asarray(Image.fromarray(part).reduce(factor))


class TransformersEmbedder:
    """An image model of transformers, from a folder."""

    def __init__(self, model: Any, processor: Any, name: str) -> None:
        self._model, self._processor, self.name = model, processor, name

    def embed(self, pictures: Sequence[Picture]) -> np.ndarray:
        import torch
        from PIL import Image

        inputs = self._processor(images=[Image.fromarray(each) for each in pictures], return_tensors="pt")
        with torch.inference_mode():
            found = self._model(**inputs.to(self._model.device))
            pooled = found.pooler_output if found.get("pooler_output") is not None else found.last_hidden_state[:, 0]
            vectors = torch.nn.functional.normalize(pooled.float(), dim=-1)
        return vectors.cpu().numpy()


def load_embedder(folder: Path, device: str = "cpu") -> TransformersEmbedder:
    """Load an image model from a folder on this disk.

    Raises BadInput for a folder that is missing, is damaged or holds no such model.
    """
    import transformers
    from safetensors import SafetensorError

    halves = {
        "clip": transformers.CLIPVisionModel,
        "siglip": transformers.SiglipVisionModel,
        "siglip2": transformers.Siglip2VisionModel,
    }
    try:
        config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
        cls: Any = halves.get(config.model_type, transformers.AutoModel)
        model = cls.from_pretrained(folder, local_files_only=True).to(device).eval()
        processor = transformers.AutoImageProcessor.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError, ImportError, RuntimeError, AttributeError, SafetensorError) as error:
        raise BadInput(
            f"the model of likeness cannot be loaded from {folder}: {error}; give the folder of an image model for transformers, "
            "such as DINOv2's or SigLIP 2's"
        ) from error
    return TransformersEmbedder(model, processor, f"{type(model).__name__} in {Path(folder).name}")
