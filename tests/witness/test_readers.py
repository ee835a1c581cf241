"""A published text reader on real pixels: PP-OCR by a package that brings its weights."""

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from clvr_core.brief import Goal
from clvr_core.errors import BadInput
from clvr_core.witness.text import READERS, TextWitness, installed, load_reader

GOAL = Goal("g1", 'a board that says "FRESH BREAD DAILY"', "text")


def board(text):
    """The text on a board before noise, as a picture of 256 x 512 pixels."""
    noise = np.random.default_rng(0).integers(90, 170, (256, 512, 3), dtype=np.uint8)
    picture = Image.fromarray(noise)
    pen = ImageDraw.Draw(picture)
    pen.rectangle((20, 90, 492, 170), fill=(30, 50, 40))
    pen.text((256, 130), text, font=ImageFont.load_default(36), fill=(240, 235, 220), anchor="mm")
    return np.asarray(picture)


@pytest.fixture(scope="module")
def witness():
    if not installed():
        pytest.skip(f"none of {', '.join(READERS)} is installed")
    return TextWitness(load_reader())


@pytest.mark.parametrize(
    ("text", "says"), [("FRESH BREAD DAILY", "yes"), ("FRESH BRAED DAILY", "no"), ("", None), ("GRAND HOTEL", None)]
)
def test_what_is_written_is_read_to_the_letter(witness, text, says):
    finding = witness.look(board(text), [GOAL]).get("g1")
    assert (finding and finding.says) == says
    if finding:
        left, top, right, bottom = finding.boxes[0]
        assert (
            finding.strength > 0.85 and text in finding.words and 0.2 < top < 0.5 < bottom < 0.8 and left < 0.5 < right
        )


def test_lettering_where_none_is_wanted(witness):
    goal = Goal("g1", "no text anywhere", "text")
    assert witness.look(board("FRESH BREAD"), [goal])["g1"].says == "no"
    assert witness.look(board(""), [goal]) == {}


def test_a_picture_of_one_pixel_and_a_plain_one_say_nothing(witness):
    for picture in (np.zeros((1, 1, 3), np.uint8), np.zeros((64, 64, 3), np.uint8)):
        assert witness.look(picture, [GOAL]) == {}


def test_the_words_about_a_missing_reader(monkeypatch):
    monkeypatch.setattr("clvr_core.witness.text.installed", lambda: ())
    with pytest.raises(
        BadInput, match=r"pip install rapidocr onnxruntime, or install clvr with its extra: clvr\[text\]"
    ):
        load_reader()
    with pytest.raises(BadInput, match="needs faster-paddle, which is not installed"):
        load_reader("faster-paddle")
    with pytest.raises(BadInput, match="give rapidocr or faster-paddle, or the folders"):
        load_reader("tesseract")


def test_folders_without_models_are_refused(tmp_path):
    with pytest.raises(BadInput, match="give the folder of a text detector and that of a recogniser"):
        load_reader(f"{tmp_path / 'det'}+{tmp_path / 'rec'}")
