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
    request = DrawRequest(
        prompt,
        0,
        tuple(map(canvases.picture, references)),
        brief.width,
        brief.height,
        mask,
        action.strength,
        tuple(map(canvases.latent, references)),
    )
    requests = tuple(replace(request, seed=seed) for seed in call.seeds)
    return Composition(call, requests, (shortened,) if shortened else ())


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
    beyond = () if most is None else references[most:]
    if not beyond:
        return ()
    names = ", ".join(f"canvas {canvas}" for canvas in beyond)
    return (f"the executor edits from {most} of {len(references)} pictures; left out: {names}",)
