"""A training run that was stopped goes on as if it had not been."""

from __future__ import annotations

import contextlib
import json
import math
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from torch.nn import Linear

from clvr_core.training import fit as module
from clvr_core.training.fit import Schedule, fit
from clvr_core.training.state import TrainingState


class Stop(Exception):
    """Stands for a kill."""


def schedule(**changes) -> Schedule:
    return Schedule(**{"steps": 6, "lr": 0.1, "warmup": 2, "ema": 0.5, "log_every": 1, "save_every": 3, **changes})


def trained(folder: Path, plan: Schedule, kill_at: int | None = None, seed: int = 0) -> tuple[torch.Tensor, list[int]]:
    """Weights after training a line to a point, with chance in every loss, and the steps that were run."""
    torch.manual_seed(1)
    model, ran = Linear(3, 1), []

    def loss_of(wrapped: torch.nn.Module, step: int) -> torch.Tensor:
        if step == kill_at:
            raise Stop
        ran.append(step)
        return (wrapped(torch.randn(8, 3)) - 1).square().mean()

    with contextlib.suppress(Stop):
        fit(model, loss_of, plan, folder, seed=seed, accelerator=Accelerator(cpu=True), report=lambda line: None)
    return model.weight.detach().clone(), ran


def curve(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "curve.jsonl").read_text().splitlines()]


class TestResuming:
    @pytest.mark.parametrize("kill_at", [3, 5])
    def test_a_stopped_run_ends_with_the_same_weights_and_the_same_curve(self, tmp_path, kill_at):
        whole, _ = trained(tmp_path / "whole", schedule())
        trained(tmp_path / "halves", schedule(), kill_at)
        weights, ran = trained(tmp_path / "halves", schedule())
        assert torch.equal(weights, whole) and ran == [3, 4, 5]
        assert [(line["step"], line["loss"]) for line in curve(tmp_path / "halves")] == [
            (line["step"], line["loss"]) for line in curve(tmp_path / "whole")
        ]

    def test_so_does_one_that_muon_trains(self, tmp_path):
        plan = schedule(muon=1.0)
        whole, _ = trained(tmp_path / "whole", plan)
        trained(tmp_path / "halves", plan, kill_at=5)
        weights, _ = trained(tmp_path / "halves", plan)
        assert torch.equal(weights, whole) and not torch.equal(weights, trained(tmp_path / "adam", schedule())[0])

    def test_only_what_came_after_the_last_save_is_done_again(self, tmp_path):
        _, first = trained(tmp_path, schedule(steps=9), kill_at=8)
        _, second = trained(tmp_path, schedule(steps=9))
        assert first == list(range(8)) and second == [6, 7, 8]

    def test_killed_before_the_first_save_it_begins_anew(self, tmp_path):
        trained(tmp_path, schedule(), kill_at=2)
        _, ran = trained(tmp_path, schedule())
        assert ran == list(range(6)) and [line["step"] for line in curve(tmp_path)] == [1, 2, 3, 4, 5, 6]

    def test_a_finished_run_is_not_run_again_and_gives_the_same_weights(self, tmp_path):
        whole, _ = trained(tmp_path, schedule())
        again, ran = trained(tmp_path, schedule())
        assert torch.equal(whole, again) and ran == [] and len(curve(tmp_path)) == 6

    def test_killed_while_saving_it_goes_on_from_the_save_before(self, tmp_path, monkeypatch):
        real = TrainingState.save

        def half(self, folder):
            real(self, folder)
            next(Path(folder).glob("*.safetensors")).write_bytes(b"half")
            raise Stop

        whole, _ = trained(tmp_path / "whole", schedule())
        trained(tmp_path / "cut", schedule(), kill_at=4)
        monkeypatch.setattr(TrainingState, "save", half)
        trained(tmp_path / "cut", schedule())
        monkeypatch.undo()
        weights, ran = trained(tmp_path / "cut", schedule())
        assert torch.equal(weights, whole) and ran == [3, 4, 5]

    @pytest.mark.parametrize("at", ["rmtree", "rename"])
    def test_killed_while_the_new_save_takes_the_place_of_the_old_it_goes_on_from_the_new(
        self, tmp_path, monkeypatch, at
    ):
        def kill(*_, **__):
            raise Stop

        trained(tmp_path, schedule(), kill_at=4)
        monkeypatch.setattr(*{"rmtree": (module.shutil, "rmtree"), "rename": (Path, "rename")}[at], kill)
        trained(tmp_path, schedule())
        monkeypatch.undo()
        _, ran = trained(tmp_path, schedule())
        assert ran == []

    def test_a_line_of_the_curve_that_was_cut_is_dropped(self, tmp_path):
        trained(tmp_path, schedule(), kill_at=3)
        with (tmp_path / "curve.jsonl").open("a") as file:
            file.write('{"step": 4, "lo')
        trained(tmp_path, schedule())
        assert [line["step"] for line in curve(tmp_path)] == [1, 2, 3, 4, 5, 6]

    def test_seconds_go_on_counting(self, tmp_path):
        trained(tmp_path, schedule(), kill_at=3)
        trained(tmp_path, schedule())
        seconds = [line["seconds"] for line in curve(tmp_path)]
        assert seconds == sorted(seconds)

    def test_another_seed_is_another_run(self, tmp_path):
        assert not torch.equal(
            trained(tmp_path / "a", schedule(), seed=0)[0], trained(tmp_path / "b", schedule(), seed=1)[0]
        )


class TestTheResult:
    def test_is_the_average_over_the_last_steps(self, tmp_path):
        last, _ = trained(tmp_path / "last", schedule(ema=0.0))
        mean, _ = trained(tmp_path / "mean", schedule(ema=0.9))
        assert not torch.equal(last, mean)

    def test_several_steps_make_one_line_of_the_curve_and_the_last_is_always_there(self, tmp_path):
        trained(tmp_path, schedule(steps=7, log_every=3))
        assert [line["step"] for line in curve(tmp_path)] == [3, 6, 7]

    def test_weights_that_need_no_gradient_stay(self, tmp_path):
        model = Linear(2, 1)
        model.bias.requires_grad_(False)
        before = model.bias.clone()
        fit(
            model,
            lambda wrapped, step: wrapped(torch.ones(1, 2)).square().sum(),
            schedule(),
            tmp_path,
            seed=0,
            accelerator=Accelerator(cpu=True),
            report=lambda line: None,
        )
        assert torch.equal(model.bias, before) and not model.training


class TestTheSchedule:
    PLAN = Schedule(steps=110, lr=1.0, warmup=10, floor=0.1)

    def test_warms_up_in_a_line(self):
        assert [self.PLAN.factor(step) for step in (0, 4, 9)] == pytest.approx([0.1, 0.5, 1.0])

    def test_comes_down_in_a_cosine_to_its_floor(self):
        assert self.PLAN.factor(10) == pytest.approx(1.0)
        assert self.PLAN.factor(60) == pytest.approx(0.1 + 0.9 / 2)
        assert self.PLAN.factor(35) == pytest.approx(0.1 + 0.9 * (0.5 + 0.5 * math.cos(math.pi / 4)))
        assert self.PLAN.factor(110) == pytest.approx(0.1) == pytest.approx(self.PLAN.factor(500))

    def test_without_a_warm_up_it_begins_at_the_top(self):
        assert Schedule(steps=10, lr=1.0, warmup=0).factor(0) == 1.0
