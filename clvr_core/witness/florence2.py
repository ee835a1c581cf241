"""Florence-2 as a detector of any words: it writes where things of a name are, one reply a name."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import BadInput

TASK = "<OPEN_VOCABULARY_DETECTION>"
BINS = 1000
"""Steps of a coordinate."""
LONGEST = 1024
"""Tokens of a reply at most: two hundred boxes."""
NEAR = 20
"""Steps about a coordinate whose probability counts for it: the model spreads it over neighbours."""
_PLACE = re.compile(r"<loc_(\d+)>")


class Florence2:
    """A Florence-2 of transformers."""

    def __init__(self, folder: Path, device: str) -> None:
        """Raises BadInput for a folder with Microsoft's own code, and what transformers raises."""
        from transformers import AutoConfig, AutoProcessor, Florence2ForConditionalGeneration

        config = AutoConfig.from_pretrained(folder, local_files_only=True)
        if getattr(config, "auto_map", None):
            raise BadInput(
                f"the detector in {folder} is a Florence-2 that brings code of its own, which is not run; take the form "
                "that transformers reads by itself, such as florence-community/Florence-2-base"
            )
        model: Any = Florence2ForConditionalGeneration.from_pretrained(folder, local_files_only=True)
        self._model = model.to(device).eval()
        self._processor: Any = AutoProcessor.from_pretrained(folder, local_files_only=True)
        self._steps: list[int] = self._processor.tokenizer.convert_tokens_to_ids([f"<loc_{n}>" for n in range(BINS)])

    def __call__(self, image: Any, names: Sequence[str]) -> list[dict[str, Any]]:
        """image: a PIL picture. Returns label, score and box in pixels of what it places."""
        return [one for name in names for one in self._placed(image, name)]

    def _placed(self, image: Any, name: str) -> list[dict[str, Any]]:
        import torch

        inputs = self._processor(text=f"{TASK}{name}", images=image, return_tensors="pt").to(self._model.device)
        with torch.inference_mode():
            reply = self._model.generate(
                **inputs,
                max_new_tokens=LONGEST,
                num_beams=1,
                do_sample=False,
                return_dict_in_generate=True,
                output_scores=True,
            )
        tokens = reply.sequences[0, -len(reply.scores) :].tolist()
        words = self._processor.tokenizer.convert_ids_to_tokens(tokens)
        chances = [self._chance(word, row[0].float().softmax(-1)) for word, row in zip(words, reply.scores)]
        return [
            {
                "label": name,
                "score": score,
                "box": dict(zip(("xmin", "ymin", "xmax", "ymax"), _pixels(box, image.size))),
            }
            for box, score in placed(words, chances)
        ]

    def _chance(self, word: str, told: Any) -> float:
        """How probable the model held a coordinate, its neighbours included; 1 for any other token. told: of each token."""
        if not (place := _PLACE.fullmatch(word)):
            return 1.0
        step = int(place[1])
        return float(told[self._steps[max(0, step - NEAR) : step + NEAR + 1]].sum())


Steps = tuple[int, int, int, int]
"""left, top, right, bottom of a box, 0 to BINS - 1."""


def placed(words: Sequence[str], chances: Sequence[float]) -> list[tuple[Steps, float]]:
    """Read a reply: each box and the box around each outline, with a score 0..1.

    words, chances: the tokens of the reply, and how probable the model held each, of coordinates. The score is the geometric mean of
    the place's own tokens, since Florence-2 gives none.
    """
    found: list[tuple[Steps, float]] = []
    outline, run = False, list[tuple[int, float]]()
    for word, chance in [*zip(words, chances), ("", 1.0)]:
        if place := _PLACE.fullmatch(word):
            run.append((min(int(place[1]), BINS - 1), chance))
            continue
        size = len(run) if outline else 4
        for start in range(0, len(run) - size + 1, max(size, 1)):
            part = run[start : start + size]
            across, down = [step for step, _ in part[0::2]], [step for step, _ in part[1::2]]
            score = math.exp(sum(math.log(max(each, 1e-9)) for _, each in part) / size)
            if size >= 4 and (outline or (across[0] <= across[1] and down[0] <= down[1])):
                found.append(((min(across), min(down), max(across), max(down)), score))
        run, outline = [], word == "<poly>" or (outline and word == "<sep>")
    return found


def _pixels(box: Steps, size: tuple[int, int]) -> list[float]:
    """The middle of each step, in pixels of a picture of this size, width x height."""
    return [(step + 0.5) / BINS * size[place % 2] for place, step in enumerate(box)]
