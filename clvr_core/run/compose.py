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
    warnings: what of the action the executor does not get, a sentence each.
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
    warnings = (shortened, _left_out(references, models.limit.references if models.limit else None))
    return Composition(call, tuple(replace(request, seed=seed) for seed in call.seeds), tuple(filter(None, warnings)))


def _painted_mask(call: Draw, canvases: Canvases) -> Picture | None:
    """The mask that the artist painted for this edit."""
    remark = call.trajectory.remark
    if remark is None or not remark.mask or call.action.kind != "EDIT":
        return None
    return canvases.mask(remark)


def _left_out(references: tuple[int, ...], most: int | None) -> str:
    """Name the canvases beyond the `most` references that the executor takes (None: any number); "" if there are
    none."""
    beyond = () if most is None else references[most:]
    if not beyond:
        return ""
    names = ", ".join(f"canvas {canvas}" for canvas in beyond)
    return f"the executor edits from {most} of {len(references)} pictures; left out: {names}"
