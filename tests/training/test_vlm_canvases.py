"""Canvases that weights drew, as the embedded vision-language model is taught to look at them."""

from __future__ import annotations

import json
import queue
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from clvr_core.errors import BadInput
from clvr_core.executor.small_klein import save_pipeline
from clvr_core.stickers import perceive as reading
from clvr_core.stickers.model import RECIPE
from clvr_core.stickers.simulated import SimulatedExecutor, perceive
from clvr_core.training import vlm_canvases
from clvr_core.training.vlm_batches import Load, Writer, hold_out
from clvr_core.training.vlm_canvases import Canvases, drawn_by, labels
from clvr_core.training.vlm_feed import Settings
from clvr_core.training.vlm_model import FOLDER
from clvr_core.training.vlm_pretrain import Trainer
from clvr_core.training.vlm_questions import asked
from tests.executor.small import klein
from tests.training.small_vlm import small_config


class Counting(SimulatedExecutor):
    """Draws what a program reads, and breaks down after so many calls."""

    def __init__(self, calls: int = 99) -> None:
        super().__init__()
        self.left, self.drawn = calls, 0

    def draw(self, requests: Any) -> Any:
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt
        self.drawn += len(requests)
        return super().draw(requests)


@pytest.fixture
def weights(tmp_path) -> Path:
    folder = tmp_path / "weights"
    folder.mkdir()
    (folder / "model_index.json").write_text("{}")
    return folder


@pytest.fixture
def read_by_program(tmp_path, monkeypatch) -> Path:
    """The reader is a program, and a file stands for its weights."""
    file = tmp_path / "reader.safetensors"
    file.write_text("one")
    monkeypatch.setenv("CLVR_READER", str(file))
    monkeypatch.setattr(reading, "reader", lambda: None)
    monkeypatch.setattr(reading, "read", lambda images, network: [perceive(image) for image in images])
    monkeypatch.setattr(vlm_canvases, "PART", 8)
    return file


def draw(out: Path, weights: Path, executor: Counting, count: int = 24) -> Canvases:
    return drawn_by([weights], out, count, load=lambda folder, device: executor)


def test_canvases_are_drawn_once_and_a_run_that_was_killed_goes_on(read_by_program, weights, tmp_path):
    whole = draw(tmp_path / "whole", weights, Counting())
    with pytest.raises(KeyboardInterrupt):
        draw(tmp_path / "out", weights, Counting(3))
    rest = Counting()
    resumed = draw(tmp_path / "out", weights, rest)
    assert rest.drawn == 16 and np.array_equal(resumed.pictures, whole.pictures)
    again = Counting(0)
    assert np.array_equal(draw(tmp_path / "out", weights, again).cells, whole.cells)
    assert whole.about["drawn"] == 24 and whole.about["read by"] == "the world's reader"
    assert 0 < whole.unseen.sum() < len(whole.pictures) == whole.about["clear"]
    (weights / "model_index.json").write_text('{"other": 1}')
    with pytest.raises(BadInput, match="canvases of other weights"):
        draw(tmp_path / "out", weights, Counting())


def test_labels_are_what_the_reader_sees_and_unclear_canvases_are_left_out(
    read_by_program, weights, tmp_path, monkeypatch
):
    found = draw(tmp_path / "out", weights, Counting())
    for held_out in (True, False):
        known = labels(found, held_out)
        assert len(known.scenes) == (found.unseen == held_out).sum()
        for place, scene in zip(known.places, known.scenes):
            assert perceive(found.pictures[place]).scene() == scene and found.unseen[place] == held_out
    read = reading.read

    def doubtful(images: Any, network: Any) -> Any:
        return [
            vlm_canvases.reading.Perception((), None) if n % 2 else each for n, each in enumerate(read(images, network))
        ]

    monkeypatch.setattr(reading, "read", doubtful)
    read_by_program.write_text("another reader")
    fewer = draw(tmp_path / "out", weights, Counting(0))
    assert len(fewer.pictures) < len(found.pictures) and fewer.about["drawn"] == 24
    monkeypatch.setattr(reading, "read", lambda images, network: [reading.Perception((), None) for _ in images])
    read_by_program.write_text("a reader that sees nothing")
    with pytest.raises(BadInput, match="sees none of the 24 canvases"):
        draw(tmp_path / "out", weights, Counting(0))


def test_a_batch_shows_the_canvases_themselves_with_questions_about_what_stands_on_them(
    read_by_program, weights, tmp_path
):
    canvases = draw(tmp_path / "out", weights, Counting())
    canvas = labels(canvases, False).draw
    writer = Writer(FOLDER / "tokenizer.json")
    batch = writer.batch(asked(random.Random(3), 20, pairs=0.2, canvas=canvas, share=0.5))
    shown = np.flatnonzero(batch.drawn >= 0)
    assert 3 < len(shown) < 16
    assert np.array_equal(batch.cells[shown], canvases.cells[batch.drawn[shown]])
    assert np.array_equal(batch.backdrops[shown], canvases.backdrops[batch.drawn[shown]])
    settings = Settings()
    trainer = Trainer(
        settings,
        tmp_path / "run",
        torch.device("cpu"),
        lambda cells, backdrops: torch.full((len(cells), 3, 192, 192), 0.5),
        small_config(),
        canvases,
    )
    pictures = trainer.pictures(batch.cells, batch.backdrops, batch.flat, True, batch.drawn)
    for place in range(len(pictures)):
        own = torch.from_numpy(canvases.pictures[batch.drawn[place]]).permute(2, 0, 1) / 255
        assert torch.equal(pictures[place], own) == (place in shown)
    loss, _ = trainer.losses(batch)
    loss.backward()
    assert torch.isfinite(loss)
    trainer.save()
    noted = json.loads((tmp_path / "run" / "run.json").read_text())["canvases"]
    assert noted["weights"][0]["folder"] == "weights" and noted["clear"] == len(canvases.pictures)
    waiting: Any = queue.Queue()
    hold_out(waiting, FOLDER / "tokenizer.json", 1, Load(16, 8, 2, (0, 0, 0, 0)), labels(canvases, True))
    rendered, drawn = waiting.get()
    assert (rendered.drawn == -1).all() and len(rendered.talk.ids) == 2
    assert canvases.unseen[drawn.drawn[drawn.drawn >= 0]].all() and (drawn.drawn >= 0).sum() > 12
    plain = writer.batch(asked(random.Random(3), 20, pairs=0.2))
    assert (plain.drawn == -1).all()


def test_the_record_names_a_makeshift_reader(read_by_program, weights, tmp_path, monkeypatch):
    """A folder of weights, whose own encoder reads."""
    monkeypatch.setenv("CLVR_READER", str(weights))
    assert draw(tmp_path / "out", weights, Counting()).about["read by"] == "read by the encoder of weights"


def test_weights_draw_canvases_of_the_worlds_size(read_by_program, tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(vlm_canvases, "PART", 4)
    monkeypatch.setattr(reading, "read", lambda images, network: [reading.Perception() for _ in images])
    found = drawn_by([tiny], tmp_path / "out", 4)
    assert found.about["drawn"] == 4 and found.pictures.shape == (4, 192, 192, 3) and not found.unseen.any()
    save_pipeline(klein(), tmp_path / "small", RECIPE)
    with pytest.raises(BadInput, match="draw 96 px; those of the sticker world draw 192"):
        drawn_by([tmp_path / "small"], tmp_path / "other", 4)
