"""The embedded vision-language model's folder as a CLIP object of the real ComfyUI: the answers of this process."""

from __future__ import annotations

from tests.comfy.server import PYTHON
from tests.embedded_answers import answers_here, measured, save_random
from tests.stickers.test_art import needs_art


@needs_art
def test_the_same_weights_give_the_same_answers_in_comfyui(tmp_path):
    """With every kind of question, about one picture and about several; the weights are random."""
    folder = save_random(tmp_path / "model")
    here = answers_here(folder, tmp_path / "answers.json")
    missed = measured("--backend", "comfyui", "--model", folder, "--against", here, python=PYTHON)
    assert "backends differ" not in missed, missed
