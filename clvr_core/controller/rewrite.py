"""Prompt rewriting: what a language model can do for a picture without seeing one. A baseline for the loop."""

from __future__ import annotations

from dataclasses import dataclass

from ..protocols import Message, Vlm
from ..vlm.replies import Answer, Malformed, ask
from . import prompts

REWRITE_SCHEMA = {
    "type": "object",
    "properties": {"prompt": {"type": "string", "maxLength": prompts.MAX_PROMPT_FIELD}},
    "required": ["prompt"],
    "additionalProperties": False,
}
ASKED = """<brief>
{prompt}
</brief>
Write the prompt from which an image model draws this best, in one paragraph: work out what the brief implies, name every thing with its
number, look and place, keep quoted texts to the letter, add nothing that the brief does not ask for or imply.
Answer as JSON: {{"prompt": "..."}}"""


@dataclass(frozen=True)
class RewriteReply:
    prompt: str


def rewrite(vlm: Vlm, prompt: str, seed: int = 0) -> Answer[str]:
    """Ask for a better prompt, at most MAX_PROMPT_FIELD characters.

    seed: of the embedded model's choices; others do not read it.
    """
    message = Message("user", ASKED.format(prompt=prompt), data={"task": "rewrite", "prompt": prompt, "seed": seed})
    answer = ask(vlm, (message,), REWRITE_SCHEMA, RewriteReply, check=_check)
    value = None if answer.value is None else answer.value.prompt.strip()
    return Answer(value, answer.failure, answer.tokens, answer.calls)


def _check(reply: RewriteReply) -> None:
    if not reply.prompt.strip():
        raise Malformed("the prompt is empty")
    if len(reply.prompt) > prompts.MAX_PROMPT_FIELD:
        raise Malformed(f"the prompt has {len(reply.prompt):,} characters; at most {prompts.MAX_PROMPT_FIELD:,}")
