"""The text by which image sites show prompt and seed."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from clvr_core import __version__
from clvr_core.run.run_folder import BEST, RunFolder
from clvr_core.storage.parameters import PARAMETERS_KEY, parameters, parameters_of_best
from clvr_core.storage.png import read_png, write_png
from clvr_core.trajectory import Action
from tests.fakes import Drawing, grey
from tests.storage.test_png import run

READER = re.compile(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')
"""Of the last line, from stable-diffusion-webui (`modules/infotext_utils.py`)."""


def fields(text: str) -> dict[str, str]:
    return dict(READER.findall(text.splitlines()[-1]))


def test_the_last_line_is_read_as_stable_diffusion_webui_reads_it():
    trajectory = replace(run(), models={"executor": "Flux2 by klein, 4 steps, guidance 1"})
    text = parameters(trajectory, seed=7, nfe=4)
    assert text.splitlines()[0] == "a red circle" and text.splitlines()[1].startswith("Steps: 4, ")
    assert fields(text) == {
        "Steps": "4",
        "Seed": "7",
        "Size": "192x192",
        "Model": '"Flux2 by klein, 4 steps, guidance 1"',
        "Version": f"clvr {__version__}",
    }


@pytest.mark.parametrize("prompt", ["two\nlines", "zero\0byte", "half a pair \ud800", "\u7ea2\u8272\u7684\u5706"])
def test_any_prompt_goes_into_a_picture_and_comes_back(tmp_path, prompt):
    trajectory = replace(run(), brief=replace(run().brief, prompt=prompt))
    text = parameters(trajectory, 7, 4)
    write_png(tmp_path / "x.png", grey(1), {PARAMETERS_KEY: text})
    assert read_png(tmp_path / "x.png")[1] == {PARAMETERS_KEY: text}
    assert (b"tEXtparameters" in (tmp_path / "x.png").read_bytes()) == all(ord(letter) < 256 for letter in text)
    assert fields(text)["Seed"] == "7"


def test_canvases_and_the_best_picture_have_it_and_a_picture_that_was_given_has_not(tmp_path):
    folder, trajectory = RunFolder.create(tmp_path / "run"), run()
    folder.save_canvas(0, Drawing(grey(1), 4), replace(trajectory, steps=(), best=None), 7)
    folder.save_canvas(1, Drawing(grey(1), 0), trajectory, None)
    folder.finish(trajectory, grey(1))
    found = [read_png(folder.path / name)[1].get(PARAMETERS_KEY) for name in ("canvas-000.png", "canvas-001.png", BEST)]
    assert found[0] == found[2] and fields(found[0])["Seed"] == "7" and found[1] is None
    (step,) = trajectory.steps
    assert parameters_of_best(replace(trajectory, steps=(replace(step, action=Action("GIVEN")),))) == {}
    assert parameters_of_best(replace(trajectory, best=None)) == {}
    assert np.array_equal(read_png(folder.path / BEST)[0], grey(1))
