"""The state of a training run holds no pickle, none is read, and what is not a state is named in a sentence."""

from __future__ import annotations

import json
import os
import pickle
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from safetensors.torch import load_file, save_file
from torch.nn import Linear

from clvr_core.errors import BadInput
from clvr_core.training.fit import Schedule, TrainingFailed, fit
from clvr_core.training.state import TrainingState

ROOT = Path(__file__).parents[2]
PLAN = Schedule(steps=4, lr=0.1, warmup=1, ema=0.5, log_every=1, save_every=2)


def run(folder: Path) -> torch.Tensor:
    torch.manual_seed(0)
    model = Linear(3, 1)
    loss_of = lambda wrapped, step: (wrapped(torch.randn(8, 3)) - 1).square().mean()  # noqa: E731
    fit(model, loss_of, PLAN, folder, seed=0, accelerator=Accelerator(cpu=True), report=lambda line: None)
    return model.weight.detach().clone()


class Hostile:
    """Unpickled, it writes a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return (exec, (f"open({str(self.mark)!r}, 'w').write('it ran')",))


@pytest.mark.parametrize("name", ["custom_checkpoint_0.pkl", "optimizer.bin", "random_states_0.pkl", "scaler.pt"])
def test_a_pickle_in_a_state_does_not_run_and_a_sentence_says_so(tmp_path, name):
    """In the place of a state of an earlier version, and beside one of this."""
    run(tmp_path / "run")
    state, mark = tmp_path / "run" / "state", tmp_path / "mark"
    (state / name).write_bytes(pickle.dumps(Hostile(mark)))
    run(tmp_path / "run")
    for file in [*state.glob("weights*"), *state.glob("process*")]:
        file.unlink()
    with pytest.raises(
        TrainingFailed, match=rf"holds pickles \({name}\), as earlier versions .* none is read; restore"
    ):
        run(tmp_path / "run")
    assert not mark.exists()
    pickle.loads((state / name).read_bytes())
    assert mark.exists(), "it would have run"


def test_a_state_is_safetensors_and_json(tmp_path):
    run(tmp_path)
    files = sorted(path.name for path in (tmp_path / "state").iterdir())
    assert files == ["complete", "process-00000.json", "weights-00000.safetensors"]
    assert set(load_file(tmp_path / "state" / files[2])) == {
        *(f"{room}{name}" for room in ("model.",) for name in ("weight", "bias")),
        *(f"optimizer.{place}.{name}" for place in (0, 1) for name in ("step", "exp_avg", "exp_avg_sq")),
        "average.0",
        "average.1",
    }


@pytest.mark.parametrize(
    "harm",
    [
        "step",
        "shape",
        "type",
        "more",
        "fewer",
        "broadcast",
        "format",
        "python",
        "numpy",
        "torch",
        "list",
        "deep",
        "empty",
    ],
)
def test_a_state_that_is_another_or_damaged_is_named(tmp_path, harm):
    run(tmp_path)
    weights, process = (tmp_path / "state" / name for name in ("weights-00000.safetensors", "process-00000.json"))
    tensors, record = load_file(weights), json.loads(process.read_text())
    if harm in ("shape", "broadcast"):
        tensors["model.weight"] = torch.zeros((2, 3) if harm == "shape" else (1, 1))
    elif harm == "type":
        tensors["optimizer.0.exp_avg"] = torch.zeros((1, 3), dtype=torch.float16)
    elif harm == "more":
        tensors["model.other"] = torch.zeros(1)
    elif harm == "fewer":
        del tensors["average.1"]
    elif harm in ("list", "deep", "empty"):
        record = {"list": [], "deep": json.loads("[" * 200 + "]" * 200), "empty": {}}[harm]
    else:
        record[harm] = {"step": "x", "format": 9, "python": [3, [1], None], "numpy": ["MT19937"], "torch": "ab"}[harm]
    save_file(tensors, weights)
    process.write_text(json.dumps(record))
    with pytest.raises(TrainingFailed, match=r"cannot be gone on from: .+; restore it"):
        run(tmp_path)


def test_chance_goes_on_where_it_stood(tmp_path):
    model = Linear(2, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    state = TrainingState(model, optimizer, Accelerator(cpu=True), beside=[torch.ones(2)], step=7, seconds=1.5)
    state.save(tmp_path)

    def drawn() -> list[float]:
        return [random.random(), float(np.random.rand()), np.random.randn(), float(torch.rand(()))]

    first = drawn()
    other = TrainingState(model, optimizer, Accelerator(cpu=True), beside=[torch.zeros(2)])
    other.load(tmp_path)
    assert drawn() == first and (other.step, other.seconds) == (7, 1.5) and torch.equal(other.beside[0], torch.ones(2))


def test_a_kind_of_training_that_only_pickles_can_hold_is_refused(monkeypatch):
    monkeypatch.setattr(Accelerator, "distributed_type", DistributedType.DEEPSPEED)
    with pytest.raises(BadInput, match=r"by DEEPSPEED keeps its state in pickles; use FSDP 2"):
        TrainingState(Linear(1, 1), torch.optim.AdamW(Linear(1, 1).parameters()), Accelerator(cpu=True))


SPREAD = """
import sys, torch
from pathlib import Path
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from clvr_core.training.stage import processes
from clvr_core.training.state import TrainingState
accelerator, folder = processes(), Path(sys.argv[1])
index = accelerator.process_index
total = accelerator.reduce(torch.tensor(index + 1.0)).item()
def made():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.Linear(5, 1))
    fully_shard(model, mesh=init_device_mesh("cpu", (2,)))
    return model, torch.optim.AdamW(model.parameters(), 0.1)
def step(model, optimizer, number):
    torch.manual_seed(10 * number + index)
    (model(torch.randn(4, 3)) - 1).square().mean().backward()
    optimizer.step(), optimizer.zero_grad()
def weights(model):
    return [parameter.full_tensor().detach() for parameter in model.parameters()]
model, optimizer = made()
step(model, optimizer, 1)
state = TrainingState(model, optimizer, accelerator, step=1)
state.save(folder)
step(model, optimizer, 2)
again, other = made()
loaded = TrainingState(again, other, accelerator)
accelerator.wait_for_everyone()
loaded.load(folder)
step(again, other, 2)
same = all(torch.equal(one, two) for one, two in zip(weights(model), weights(again)))
# Files, since two processes may print into one line.
told = f"{accelerator.num_processes} {total} {accelerator.is_main_process} {same} {loaded.step} {state.spread}"
(folder / f"told-{index}").write_text(told)
"""


FORKED = """
import os, runpy, socket, sys
import accelerate, torch, torch.distributed.fsdp, clvr_core.training.stage
with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": "2"}
sys.argv.pop(0)
children = []
for rank in "01":
    if not (child := os.fork()):
        os.environ.update(place, RANK=rank, LOCAL_RANK=rank)
        status = 1
        try:
            runpy.run_path(sys.argv[0], run_name="__main__")
            status = 0
        finally:
            sys.excepthook(*sys.exc_info()) if status else None
            os._exit(status)
    children.append(child)
sys.exit(max([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children], key=abs))
"""
"""Two processes in the environment that torchrun gives them, which share the seconds that importing takes."""
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]


@pytest.mark.parametrize(
    "launched",
    [
        pytest.param(["-c", FORKED], id="forked", marks=pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")),
        pytest.param(
            TORCHRUN,
            id="torchrun",
            marks=pytest.mark.skipif(not os.environ.get("CLVR_NIGHTLY"), reason="imports thrice: done each night"),
        ),
    ],
)
def test_two_processes_share_one_training_and_each_keeps_its_part_of_spread_weights(tmp_path, launched):
    (tmp_path / "spread.py").write_text(SPREAD)
    told = subprocess.run(
        [sys.executable, *launched, str(tmp_path / "spread.py"), str(tmp_path / "state")],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
    )
    assert not told.returncode, told.stderr[-3000:]
    said = [(tmp_path / "state" / f"told-{rank}").read_text() for rank in "01"]
    assert said == ["2 3.0 True True 1 True", "2 3.0 False True 1 True"]
    assert {path.suffix for path in (tmp_path / "state").iterdir()} == {".safetensors", ".json", ""}
