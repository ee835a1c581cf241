"""From an action of the controller to the requests that the executor gets."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..executor.masks import mask_of
from ..protocols import DrawRequest, Picture
from .canvases import Canvases
from .conditioning import shorten_to_window
from .loop import Draw
from .run_models import RunModels


@dataclass(frozen=True, slots=True)
class Composition:
    """
    call: the call that asks for the pictures.
    requests: one for each of the call's seeds.
    warnings: what of the action is not in the requests, a sentence each.
    """

    call: Draw
    requests: tuple[DrawRequest, ...]
    warnings: tuple[str, ...]


def compose(call: Draw, models: RunModels, canvases: Canvases) -> Composition:
    """Compose the requests of one round. Raises BadInput if a picture, latent or mask is missing in the run's store."""
    brief, action = call.trajectory.brief, call.action
    references = action.references if action.kind == "EDIT" else ()
    mask = _painted_mask(call, canvases)
    if mask is None and action.region and references:
        mask = mask_of(action.region, brief.width, brief.height)
    prompt, shortened = shorten_to_window(call.trajectory, action, models.window)
    # The canvas to edit, then the named references in the brief's order, so that these are not the first to be left out.
    first, others = references[:1], references[1:]
    named = canvases.references
    prompt, unsaid = _with_names(prompt, call, len(first), models)
    request = DrawRequest(
        prompt,
        0,
        (*map(canvases.picture, first), *named.values(), *map(canvases.picture, others)),
        brief.width,
        brief.height,
        mask,
        action.strength,
        (*map(canvases.latent, first), *[None] * len(named), *map(canvases.latent, others)),
    )
    requests = tuple(replace(request, seed=seed) for seed in call.seeds)
    return Composition(call, requests, tuple(filter(None, (shortened, unsaid))))


def _with_names(prompt: str, call: Draw, before: int, models: RunModels) -> tuple[str, str]:
    """Return the prompt with a sentence on each reference of the brief, and a warning if its window is too small for
    them. before: pictures that the executor gets before the references."""
    listed = enumerate(call.trajectory.brief.references, before + 1)
    said = "".join(f' Image {place} is the reference "{each.name}": keep its {each.keeps}.' for place, each in listed)
    window = models.window.window if said and models.window else None
    if window is not None and models.window and models.window.tokens(prompt + said) > window:
        return prompt, "the prompt for the executor has no room to say what the references are"
    return prompt + said, ""


def _painted_mask(call: Draw, canvases: Canvases) -> Picture | None:
    """The mask that the artist painted for this edit."""
    remark = call.trajectory.remark
    if remark is None or not remark.mask or call.action.kind != "EDIT":
        return None
    return canvases.mask(remark)


def left_out(composition: Composition, models: RunModels) -> tuple[str, ...]:
    """Name in a warning the canvases beyond the references that the executor takes. It may have found its limit while
    it drew."""
    action = composition.call.action
    references = action.references if action.kind == "EDIT" else ()
    most = models.limit.references if models.limit else None
    canvases = [f"canvas {canvas}" for canvas in references]
    named = [f"reference {each.name}" for each in composition.call.trajectory.brief.references]
    shown = [*canvases[:1], *named, *canvases[1:]]
    if most is None or len(shown) <= most:
        return ()
    return (f"the executor edits from {most} of {len(shown)} pictures; left out: {', '.join(shown[most:])}",)
