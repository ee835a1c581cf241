"""The drift test of an executor: what it does to a picture that is to stay, and how many edits in a row it can bear.

Four curves, each against the clean picture that it begins with: `vae`, the round trip through the VAE alone, again and
again; `fresh`, "change nothing" asked of the clean picture, with another seed each time; `recursive`, the same asked of
the last answer; `edits`, small edits, each of the last picture, measured outside the places that they meant. Distance
to the first picture tells an executor that drifts from one that errs once (as in VAE-LFA, arXiv 2605.08250, whose
protocol this is). A fault in a pipeline shows here too: InvokeAI 9510 advanced the tokens of the references, so that
"change nothing" changed more with every step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from ..policy.damage import damage
from ..protocols import Drawing, DrawRequest, Executor, Picture, RoundTrip
from ..run.calibration import Calibration
from ..trajectory import Change, seed_for
from ..verifier.changes import measure

TIMES = 10
"""Round trips, answers and edits of each curve."""
LEAST, SLACK = 0.1, 1.5
"""Least tolerance, and how many times the damage of the VAE alone is tolerated."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What the test asks for.

    prompt: of the picture that it begins with, where none is given.
    nothing: an instruction that changes nothing.
    edits: small edits, each of one place.
    """

    prompt: str
    nothing: str
    edits: tuple[str, ...]


PHOTO = Trial(
    "A red apple, a blue cup and a closed green book side by side on a wooden table, a brick wall behind them, soft light.",
    "Change nothing. Keep the whole picture exactly as it is.",
    tuple(
        f"{edit} Keep everything else exactly as it is."
        for edit in (
            "Make the cup yellow.",
            "Add a small leaf to the stem of the apple.",
            "Make the book purple.",
            "Put a white saucer under the cup.",
            "Make the apple green.",
            "Add a pencil on top of the book.",
            "Make the cup white.",
            "Remove the pencil from the book.",
            "Make the apple red.",
            "Make the book green.",
        )
    ),
)
STICKERS = Trial(
    "a large red cat at the top left, a small blue car at the middle right, a large green bird at the bottom center and a "
    "small black cup at the top right",
    "make the red cat at the top left red",
    (
        "make the blue car at the middle right pink",
        "make the green bird at the bottom center small",
        "make the black cup at the top right orange",
        "make the pink car at the middle right large",
        "make the green bird at the bottom center blue",
        "make the orange cup at the top right large",
        "make the pink car at the middle right purple",
        "make the blue bird at the bottom center large",
        "make the orange cup at the top right green",
        "make the purple car at the middle right small",
    ),
)
TRIALS = (PHOTO, STICKERS)


@dataclass(frozen=True, slots=True)
class DriftReport:
    """
    executor: its name.
    curves: name of a curve -> for each of its points what was measured against the clean picture. Without `vae` for an
        executor that cannot do the round trip alone.
    """

    executor: str
    curves: Mapping[str, tuple[Change, ...]] = field(default_factory=dict)

    def damages(self, curve: str) -> tuple[float, ...]:
        return tuple(round(damage(change), 3) for change in self.curves.get(curve, ()))

    @property
    def calibration(self) -> Calibration:
        """The budget's limits for this executor.

        depth: edits in a row, of either kind, before the damage to the rest passes the usual limits; at least 1.
        tolerance: SLACK times what the VAE does to the picture in one round trip, between LEAST and 1: what an edit does
            beyond that can be put back. 1 where the VAE could not be measured.
        """
        borne = [_borne(self.damages(curve)) for curve in ("recursive", "edits")]
        vae = self.damages("vae")
        tolerance = min(1.0, max(LEAST, round(SLACK * vae[0], 2))) if vae else 1.0
        return Calibration(tolerance, max(1, min(borne)))


def _borne(damages: tuple[float, ...]) -> int:
    """How many points at the beginning of a curve do no visible damage."""
    return next((count for count, each in enumerate(damages) if each > 1), len(damages))


def trial_for(check: Callable[[str], object] | None, refused: type[Exception]) -> Trial:
    """Return the first trial whose prompt the models can read. check: raises `refused` for a prompt that they cannot;
    None if they read any."""
    for trial in TRIALS[:-1]:
        try:
            if check is not None:
                check(trial.prompt)
            return trial
        except refused:
            continue
    return TRIALS[-1]


def measure_drift(
    executor: Executor,
    width: int,
    height: int,
    trial: Trial = PHOTO,
    picture: Picture | None = None,
    times: int = TIMES,
    seed: int = 0,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> tuple[DriftReport, Picture]:
    """Measure the executor's drift. Returns the report, and the last picture of the curve `edits`.

    picture: clean picture to begin with, uint8 height x width x 3; None to draw the trial's own.
    times: points of each curve, at least 1 and at most the trial's edits.
    progress: called with the number of pictures drawn, and of all.

    Raises what the executor raises.
    """
    total, drawn = 3 * times + (picture is None), 0

    def draw(prompt: str, number: int, before: Drawing | None) -> Drawing:
        nonlocal drawn
        references = () if before is None else (before.picture,)
        latents = () if before is None else (before.latent,)
        request = DrawRequest(prompt, seed_for(seed, number, 0), references, width, height, latents=latents)
        (found,) = executor.draw([request])
        drawn += 1
        progress(drawn, total)
        return found

    clean = draw(trial.prompt, 0, None) if picture is None else Drawing(picture, 0)
    curves: dict[str, tuple[Change, ...]] = {}
    if isinstance(executor, RoundTrip):
        curves["vae"] = _round_trips(executor, clean.picture, times)
    fresh = [draw(trial.nothing, 1 + number, clean) for number in range(times)]
    curves["fresh"] = tuple(measure(clean.picture, each.picture, ()) for each in fresh)
    last, found = clean, []
    for number in range(times):
        last = draw(trial.nothing, 1 + number, last)
        found.append(measure(clean.picture, last.picture, ()))
    curves["recursive"] = tuple(found)
    last, found, meant = clean, [], ()
    for number, words in enumerate(trial.edits[:times]):
        before, last = last, draw(words, 1 + number, last)
        meant = (*meant, *measure(before.picture, last.picture).meant)
        found.append(measure(clean.picture, last.picture, meant))
    curves["edits"] = tuple(found)
    return DriftReport(executor.name, curves), last.picture


def _round_trips(executor: RoundTrip, clean: Picture, times: int) -> tuple[Change, ...]:
    picture, found = clean, []
    for _ in range(times):
        picture = executor.round_trip(picture)
        found.append(measure(clean, picture, ()))
    return tuple(found)


def in_words(report: DriftReport) -> str:
    """A table of the damage at each point, and the limits that follow from it."""
    times = max(len(points) for points in report.curves.values())
    lines = [f"{'':10}" + "".join(f"{number:7d}" for number in range(1, times + 1))]
    lines += [f"{curve:10}" + "".join(f"{value:7.2f}" for value in report.damages(curve)) for curve in report.curves]
    found = report.calibration
    lines.append(
        f"damage to what was to stay, in multiples of the usual limits; depth to use: {found.depth}, "
        f"tolerance: {found.tolerance:g}"
    )
    return "\n".join(lines)
