"""Qwen-Image-Edit-2509 and later: QwenImageEditPlusPipeline edits, QwenImagePipeline draws the first canvas with the
same weights.
"""

from __future__ import annotations

import inspect
from typing import Any

from ..errors import BadInput
from ..protocols import DrawRequest
from .generic import GenericExecutor, _quiet

WINDOW = 1024
"""Prompt tokens: the most that the pipelines read, and twice their default."""
STEPS, GUIDANCE = 40, 4.0
"""As published for Qwen-Image-Edit-2511."""


class QwenEditExecutor(GenericExecutor):
    """Draws with a QwenImageEditPlusPipeline. Raises BadInput for another pipeline."""

    def __init__(
        self, pipe: Any, steps: int | None = None, guidance: float | None = None, name: str = "qwen-edit"
    ) -> None:
        from diffusers import QwenImageEditPlusPipeline, QwenImagePipeline

        if not isinstance(pipe, QwenImageEditPlusPipeline):
            raise BadInput(
                f"{name} holds a {type(pipe).__name__}, not a QwenImageEditPlusPipeline; name it with kind = 'generic'"
            )
        super().__init__(pipe, steps or STEPS, GUIDANCE if guidance is None else guidance, name)
        tell_image_tokens(pipe.text_encoder)
        parts = {part: component for part, component in pipe.components.items() if part != "processor"}
        self._blank = QwenImagePipeline(**parts)
        _quiet(self._blank)

    def pipe_for(self, request: DrawRequest) -> Any:
        return self.pipe if request.references else self._blank

    def settings(self, request: DrawRequest) -> dict[str, Any]:
        return super().settings(request) | {"max_sequence_length": WINDOW}

    @property
    def window(self) -> int:
        """Prompt tokens that are read for a first canvas; an edit reads more."""
        return WINDOW


def tell_image_tokens(encoder: Any) -> None:
    """Patch Qwen2.5-VL's forward so that it gets `mm_token_type_ids`, which the pipeline leaves out.

    Without them transformers 5 gives image tokens the positions of text and misreads the picture without an error
    (https://github.com/huggingface/diffusers/issues/14194).
    """
    forward = encoder.forward
    if "mm_token_type_ids" not in inspect.signature(forward).parameters:
        return

    def with_token_types(*arguments: Any, **more: Any) -> Any:
        if more.get("image_grid_thw") is not None and more.get("mm_token_type_ids") is None:
            more["mm_token_type_ids"] = (more["input_ids"] == encoder.config.image_token_id).int()
        return forward(*arguments, **more)

    encoder.forward = with_token_types
