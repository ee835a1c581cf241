"""One conversation a run: brief, action, what came of it, next action, and so on, the form of CLVR's deployed model.

The conversation is made of what the record holds (`Step.exchanges`), so that a resumed run goes on with the same messages.
It grows by appending alone: each request begins with all messages of the one before, and a model that keeps what it has
read reads only what is new. A step that was rolled back stays in it, as told.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from ..protocols import ChatWindow, Message, Picture, Vlm
from ..trajectory import Action, Exchange, Step, Trajectory
from ..vlm.replies import Answer
from . import Situation, ask_for_action, prompts, request

Pictures = Callable[[int], Picture]
"""Canvas -> its picture, uint8 H x W x 3."""


def said_so_far(trajectory: Trajectory, said: Sequence[Exchange] = ()) -> tuple[Exchange, ...]:
    """Return the exchanges of the conversation that the run is in, oldest first; empty before the first one.

    said: those since the last step.
    """
    found = [*(exchange for step in trajectory.steps for exchange in step.exchanges), *said]
    begun = max((place for place, exchange in enumerate(found) if exchange.begins), default=0)
    return tuple(found[begun:])


def next_in_conversation(
    vlm: Vlm, situation: Situation, said: Sequence[Exchange], picture: Pictures
) -> tuple[Answer[Action], Exchange]:
    """Ask for the next action as `next_action` does, in the conversation; return what was said too.

    said: exchanges since the last step; picture: of any canvas of the run.

    A new conversation begins where there is none, where the model has no room for the next request and its reply, and
    where it gave no usable reply to it, as a server does whose window is too short. The last two are said in a warning.
    """
    earlier = said_so_far(situation.trajectory, said)
    if not earlier:
        return _begun(vlm, situation)
    exchange = Exchange(_turn_text(situation, earlier), _new_canvases(situation, earlier))
    messages = conversation(situation, [*earlier, exchange], picture)
    room = vlm.room(messages) if isinstance(vlm, ChatWindow) else None
    if room is not None and room < 0:
        why = f"the conversation has no more room in the window of {vlm.name}, by {-room:,} tokens"
        return _begun(vlm, situation, Answer(None), why)
    answer = ask_for_action(vlm, situation, messages)
    if answer.value is None:
        why = f"the conversation of {len(earlier) + 1} requests was not answered ({answer.failure})"
        return _begun(vlm, situation, answer, why)
    return answer, replace(exchange, replied=prompts.reply_text(answer.value, situation.trajectory.brief.guided))


def conversation(situation: Situation, exchanges: Sequence[Exchange], picture: Pictures) -> tuple[Message, ...]:
    """Return the messages up to the request of the last exchange, whose reply is left out."""
    messages = [Message("system", prompts.system_text())]
    for exchange in exchanges:
        references = situation.references.values() if exchange.begins else ()
        shown = (*map(picture, exchange.canvases), *references)
        data = {"shown": list(exchange.canvases)}
        messages += [Message("user", exchange.asked, shown, data), Message("assistant", exchange.replied)]
    last, asked = messages[-2], request(situation, messages[-2].text)
    return (*messages[:-2], replace(asked, images=last.images, data={**asked.data, **last.data}))


def offered(messages: Sequence[Message], asked: Message) -> list[Picture]:
    """Return the pictures of the canvases that a request for an action offers, in its order, for a controller that is a
    program: a conversation shows each of them once. asked: the request, one of the messages."""
    if "shown" not in asked.data:
        return list(asked.images)
    shown = {canvas: picture for each in messages for canvas, picture in zip(each.data.get("shown", ()), each.images)}
    return [shown[canvas] for canvas in asked.data["canvases"]]


def _begun(
    vlm: Vlm, situation: Situation, before: Answer[Action] | None = None, why: str = ""
) -> tuple[Answer[Action], Exchange]:
    """Begin a conversation with the single prompt, which tells all of the run. before: what a conversation without an
    answer cost."""
    message = request(situation)
    answer = ask_for_action(vlm, situation, (Message("system", prompts.system_text()), message))
    if before is not None:
        warnings = (f"{why}; a new one begins, with a summary of the run", *answer.warnings)
        tokens, calls = before.tokens + answer.tokens, before.calls + answer.calls
        answer = replace(answer, tokens=tokens, calls=calls, warnings=warnings)
    replied = "" if answer.value is None else prompts.reply_text(answer.value, situation.trajectory.brief.guided)
    return answer, Exchange(message.text, situation.canvases, replied, begins=True)


def _new_canvases(situation: Situation, earlier: Sequence[Exchange]) -> tuple[int, ...]:
    shown = {canvas for exchange in earlier for canvas in exchange.canvases}
    return tuple(canvas for canvas in situation.canvases if canvas not in shown)


def _turn_text(situation: Situation, earlier: Sequence[Exchange]) -> str:
    """Say what is new since the last request of the conversation."""
    trajectory = situation.trajectory
    return prompts.turn_text(
        trajectory,
        _since(trajectory, earlier[-1]),
        [exchange.asked for exchange in earlier],
        situation.focus,
        situation.allowed,
        situation.canvases,
        _new_canvases(situation, earlier),
        situation.note,
        situation.stage,
        situation.wrong,
        situation.source,
    )


def _since(trajectory: Trajectory, exchange: Exchange) -> tuple[Step, ...]:
    """The steps from that on which the exchange led to; none if it was said since the last step."""
    at = next((step.index for step in trajectory.steps if exchange in step.exchanges), len(trajectory.steps))
    return tuple(step for step in trajectory.steps if step.index >= at)
