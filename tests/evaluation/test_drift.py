"""The drift test of an executor, on executors whose fault is known."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from PIL import Image

from clvr_core.errors import BadInput
from clvr_core.evaluation.drift import PHOTO, STICKERS, DriftReport, in_words, measure_drift, trial_for
from clvr_core.evaluation.drift_plot import SIZE, plot_drift
from clvr_core.protocols import Drawing, DrawRequest, RoundTrip
from clvr_core.run.calibration import Calibration
from clvr_core.trajectory import Change
from clvr_core.world import world_named

SIDE = 64


@dataclass
class Tinting:
    """Edits tint the whole picture by so many levels, and put a square where an edit asks for one."""

    levels: float = 0.0
    name = "tinting"

    def nfe(self, request: DrawRequest) -> int:
        return 1

    def draw(self, requests):
        return [self._drawn(request) for request in requests]

    def _drawn(self, request: DrawRequest) -> Drawing:
        if not request.references:
            dots = np.random.default_rng(3).integers(60, 160, (16, 16, 3), np.uint8)
            return Drawing(np.asarray(Image.fromarray(dots).resize((SIDE, SIDE), Image.Resampling.BICUBIC)), 1)
        picture = request.references[0] + np.uint8(self.levels)
        if request.prompt != PHOTO.nothing:
            at = 8 * (PHOTO.edits.index(request.prompt) % 4)
            picture[at : at + 16, at : at + 16] = 255
        return Drawing(picture, 1)


class WithVae(Tinting):
    def round_trip(self, picture):
        return picture + np.uint8(1)


def test_an_executor_that_changes_nothing_else_bears_every_edit():
    report, last = measure_drift(Tinting(), SIDE, SIDE)
    assert report.damages("fresh") == report.damages("recursive") == (0.0,) * 10
    assert report.damages("edits") == (0.0,) * 10 and last.shape == (SIDE, SIDE, 3)
    assert report.calibration == Calibration(1.0, 10) and "vae" not in report.curves


def test_drift_grows_with_the_edits_in_a_row_and_not_with_fresh_ones():
    report, _ = measure_drift(Tinting(4.0), SIDE, SIDE)
    fresh, recursive = report.damages("fresh"), report.damages("recursive")
    assert len(set(fresh)) == 1 and recursive[0] == fresh[0] > 0 and recursive[4] > 3 * recursive[0]
    depth = report.calibration.depth
    assert 1 <= depth < 10 and max(recursive[:depth]) <= 1 < max(
        recursive[: depth + 1] + report.damages("edits")[: depth + 1]
    )


def test_the_vae_alone_says_what_is_tolerated():
    assert isinstance(WithVae(), RoundTrip) and not isinstance(Tinting(), RoundTrip)
    report, _ = measure_drift(WithVae(1.0), SIDE, SIDE)
    assert len(report.curves["vae"]) == 10 and report.damages("vae") == report.damages("recursive")
    assert report.calibration.tolerance == pytest.approx(1.5 * report.damages("vae")[0], abs=0.01)


def test_the_tolerance_stays_in_its_range():
    still, torn = Change(offset=(0.0, 0.0)), Change(outside=0.9)
    curves = {"recursive": (still,), "edits": (still,)}
    assert DriftReport("one", curves | {"vae": (still,)}).calibration.tolerance == 0.1
    assert DriftReport("one", curves | {"vae": (torn,)}).calibration.tolerance == 1.0
    assert DriftReport("one", curves | {"edits": (torn,)}).calibration.depth == 1


def test_each_request_reads_the_latent_of_the_last_drawing():
    asked: list[DrawRequest] = []

    class Noting(Tinting):
        def _drawn(self, request):
            asked.append(request)
            latent = np.full((1, 2, 2), len(asked), np.float32)
            return replace(super()._drawn(request), latent=latent)

    measure_drift(Noting(), SIDE, SIDE, times=2)
    values = [None if not request.latents else float(request.latents[0].mean()) for request in asked]
    assert values == [None, 1, 1, 1, 4, 1, 6]
    assert [request.seed for request in asked[1:3]] == [request.seed for request in asked[3:5]]
    assert asked[1].seed != asked[2].seed


def test_a_given_picture_is_what_it_begins_with():
    asked: list[DrawRequest] = []

    class Noting(Tinting):
        def _drawn(self, request):
            asked.append(request)
            return super()._drawn(request)

    given, counts = np.full((SIDE, SIDE, 3), 90, np.uint8), []
    measure_drift(
        Noting(), SIDE, SIDE, picture=given, times=1, progress=lambda done, total: counts.append((done, total))
    )
    assert len(asked) == 3 and all((request.references[0] == given).all() for request in asked)
    assert counts == [(1, 3), (2, 3), (3, 3)]


def test_the_words_of_the_embedded_world_are_in_its_grammar():
    world = world_named()
    assert world.parse(STICKERS.prompt).total == 4
    assert all(len(world.parse_instruction(words)) == 1 for words in (STICKERS.nothing, *STICKERS.edits))
    assert trial_for(world.parse, world.NotInGrammar) is STICKERS and len(STICKERS.edits) == 10


def test_a_photo_is_asked_for_where_any_words_are_read():
    assert trial_for(None, BadInput) is PHOTO and len(PHOTO.edits) == 10


def test_the_report_in_words_and_as_a_curve():
    report, _ = measure_drift(WithVae(4.0), SIDE, SIDE)
    words, picture = in_words(report), plot_drift(report)
    assert all(
        name in words for name in ("vae", "fresh", "recursive", "edits", f"depth to use: {report.calibration.depth}")
    )
    assert picture.shape == (SIZE[1], SIZE[0], 3)
    colours = {tuple(colour) for colour in picture.reshape(-1, 3)}
    assert {(0xC4, 0x44, 0x2C), (0x1D, 0x8F, 0x5A), (0x7A, 0x7F, 0x87)} <= colours
