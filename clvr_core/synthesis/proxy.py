"""Proxy prompts: short prompts distilled from a long history, which a reward can judge (arXiv 2605.14876, eqs. 2 and
3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..controller.prompts import MAX_PROMPT_FIELD
from ..protocols import Message, Picture, Vlm
from ..run.conditioning import words_of
from ..text import clip
from ..trajectory import Action
from ..vlm.replies import Answer, Malformed, ask

REQUEST = """A picture is painted step by step. Below are the request, the steps so far and the step to come; the pictures are the \
canvases that the step is given, the one to change first. Distil this history into what one needs to judge the result of the step, without
it:

- scene_prompt: what the whole canvas should show after the step, complete in itself, in one short description. What later steps will \
add is left out.
- edit_prompt: for a change, the instruction of this step alone, with what must stay as it is; otherwise empty.
- references: the numbers of those pictures before you that the step really draws on, the first being 1; none for a new picture.
"""
SCHEMA = {
    "type": "object",
    "properties": {
        "references": {"type": "array", "items": {"type": "integer", "minimum": 1}, "maxItems": 8},
        "edit_prompt": {"type": "string", "maxLength": MAX_PROMPT_FIELD},
        "scene_prompt": {"type": "string", "maxLength": MAX_PROMPT_FIELD},
    },
    "required": ["references", "edit_prompt", "scene_prompt"],
    "additionalProperties": False,
}


@dataclass(frozen=True)
class Proxy:
    """The proxy prompts of a step.

    scene_prompt: the whole canvas after the step.
    edit_prompt: the instruction of the step; empty for a new picture.
    references: numbers of the given pictures that the step uses, the first being 1.
    """

    scene_prompt: str
    edit_prompt: str = ""
    references: tuple[int, ...] = ()


def distil_proxy(
    vlm: Vlm, prompt: str, past: Sequence[Action], last: Action, pictures: Sequence[Picture]
) -> Answer[Proxy]:
    """Ask the model for the proxy prompts of a step.

    prompt: the brief.
    past, last: the earlier actions and the one of the step.
    pictures: the canvases that the step is given, the one to edit first; none for a new picture.
    """
    steps = (
        "\n".join(
            f"Step {number}: {clip(action.summary, 400)} {clip(words_of(action), 400)}"
            for number, action in enumerate(past, 1)
        )
        or "none"
    )
    text = f"{REQUEST}\n<request>\n{prompt}\n</request>\n\nSteps so far:\n{steps}\n\nThe step to come: {last.summary} {words_of(last)}"
    message = Message("user", text, tuple(pictures), {"task": "proxy", "prompt": prompt, "words": words_of(last)})

    def require_consistent(reply: Proxy) -> None:
        if pictures and not reply.edit_prompt.strip():
            raise Malformed("the step is a change, so edit_prompt must hold its instruction")
        if any(not 1 <= place <= len(pictures) for place in reply.references):
            raise Malformed(
                f"references may name pictures 1 to {len(pictures)}"
                if pictures
                else "there are no pictures to refer to"
            )
        if pictures and 1 not in reply.references:
            raise Malformed("references must hold picture 1, the one that is changed")

    return ask(vlm, (message,), SCHEMA, Proxy, check=require_consistent)
