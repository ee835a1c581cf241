"""Qwen-Image-Edit-2509 and later through QwenImageEditPlusPipeline; a first canvas is drawn by QwenImagePipeline with the same weights."""

from __future__ import annotations

import inspect
from typing import Any

from ..errors import BadInput
from ..protocols import DrawRequest
from .generic import GenericExecutor, _quiet

WINDOW = 1024
"""Tokens; the pipelines take no more, and half of it if they are not told."""
STEPS, GUIDANCE = 40, 4.0
"""As published for Qwen-Image-Edit-2511."""


class QwenEditExecutor(GenericExecutor):
    """Raises BadInput for another pipeline."""

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
        """An edit has room for more; the first canvas has not."""
        return WINDOW


def tell_image_tokens(encoder: Any) -> None:
    """Tells Qwen2.5-VL which tokens are an image's, where the pipeline does not.

    Without that, transformers 5 gives them the positions of text, and the picture is misread without a word
    (https://github.com/huggingface/diffusers/issues/14194).
    """
    forward = encoder.forward
    if "mm_token_type_ids" not in inspect.signature(forward).parameters:
        return

    def told(*arguments: Any, **more: Any) -> Any:
        if more.get("image_grid_thw") is not None and more.get("mm_token_type_ids") is None:
            more["mm_token_type_ids"] = (more["input_ids"] == encoder.config.image_token_id).int()
        return forward(*arguments, **more)

    encoder.forward = told
