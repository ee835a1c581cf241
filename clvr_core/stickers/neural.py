"""The learned controller and judge of the world: a vision-language model of Qwen3-VL's class, loaded as any other from a
folder. It reads the words of a request and looks at its pictures, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import BadInput
from ..protocols import Decision, Message, Picture, Question, Reply
from .grammar import parse
from .scene import CANVAS

FOLDER = Path(__file__).parent / "vlm"
"""Tokenizer, processor, configuration and weights, in transformers' own format."""
LONGEST = 768
"""Tokens of a reply: a list of goals for the longest brief has about 400."""


def is_learned(folder: Path) -> bool:
    """Say whether the model in a folder is of the embedded one's make: a Qwen3-VL with as large patches, and so with one
    visual token a place."""
    try:
        ours, theirs = (
            json.loads((each / "config.json").read_text("utf-8"))["vision_config"] for each in (FOLDER, folder)
        )
        return all(theirs[name] == ours[name] for name in ("model_type", "patch_size", "spatial_merge_size"))
    except (OSError, ValueError, KeyError, TypeError):
        return False


class NeuralVlm:
    """A `Vlm` on the embedded folder, or on another one that was taught the same. device: as torch names it.

    It was taught lists of goals, actions of the strategies clvr and director by single prompts and in one conversation,
    the verifier's questions about goals and edits, and its comparisons. Raises BadInput for a folder that holds no weights
    or does not load.
    """

    def __init__(self, folder: Path = FOLDER, device: str = "cpu") -> None:
        from ..vlm.local import Local, load_local

        if not any(folder.glob("*.safetensors")):
            raise BadInput(
                f"there are no weights of the learned model in {folder}; `clvr train stickers vlm --out DIR --seconds 500 --publish` "
                "makes them on a GPU"
            )
        # In float32, which a CPU reads faster than bfloat16; it is small.
        settings = Local(str(folder), device, "float32", image_side=CANVAS, max_tokens=LONGEST)
        self._vlm = load_local(settings)
        self.name = "stickers (neural)" if folder == FOLDER else f"stickers (neural, {folder.name})"

    def require_readable(self, prompt: str) -> None:
        """Raises NotInGrammar for a brief beyond the words that it was taught."""
        parse(prompt)

    def room(self, messages: Sequence[Message]) -> int | None:
        return self._vlm.room(messages)

    def chat(self, messages: Sequence[Message], schema: Any) -> Reply:
        return self._vlm.chat(messages, schema)

    def decide(self, images: Sequence[Picture], questions: Sequence[Question]) -> list[Decision]:
        return self._vlm.decide(images, questions)
