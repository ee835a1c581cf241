"""The state of a training run on disk, from which a run that was stopped goes on as if it had not been.

    weights-00000.safetensors   weights, the optimizer's moments, their average and what else is kept; one file, or one
                                for each process if the weights are spread over the processes
    process-00000.json          what else each process needs: the step, and where its sources of chance stand

No file holds a pickle, and none is read: a pickle runs code of whoever wrote it.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from diffusers.training_utils import EMAModel
from safetensors import safe_open
from safetensors.torch import save_file
from torch.distributed.tensor import DTensor

from ..errors import BadInput
from ..reading import json_of

FORMAT = 1
PICKLES = (".pkl", ".pickle", ".bin", ".pt", ".pth", ".metadata", ".distcp")
SPREAD = (DistributedType.FSDP, DistributedType.DEEPSPEED, DistributedType.MEGATRON_LM)


@dataclass
class TrainingState:
    """What a training run has learned.

    model: as accelerate prepared it, or the one inside its wrapper.
    ema: its average; None if there is none.
    beside: further tensors, loaded in place.
    step: steps that are done.
    seconds: how long they took.
    """

    model: torch.nn.Module
    optimizer: torch.optim.Optimizer
    accelerator: Accelerator
    ema: EMAModel | None = None
    beside: Sequence[torch.Tensor] = ()
    step: int = 0
    seconds: float = 0.0
    spread: bool = field(init=False)

    def __post_init__(self) -> None:
        """Raises BadInput for a kind of training whose state only pickles can hold."""
        kind = self.accelerator.distributed_type
        self.spread = any(isinstance(parameter, DTensor) for parameter in self.model.parameters())
        if kind in SPREAD and not self.spread:
            raise BadInput(
                f"training by {kind.value} keeps its state in pickles; use FSDP 2, as configs/fsdp2.yaml does"
            )

    def save(self, folder: Path) -> None:
        """Write the state; called in every process. Raises what the disk and safetensors raise."""
        folder.mkdir(parents=True, exist_ok=True)
        if self.spread or self.accelerator.is_main_process:
            save_file({name: _own(tensor).contiguous() for name, tensor in self._tensors()}, self._weights(folder))
        self._process(folder).write_text(json.dumps(self._record()), encoding="utf-8")

    def load(self, folder: Path) -> None:
        """Read the state. Raises BadInput for one of an earlier version, and many kinds of errors for a damaged one."""
        if not self._weights(folder).exists() and (old := sorted(map(str, _pickles(folder)))):
            raise BadInput(
                f"it holds pickles ({old[0]}), as earlier versions of clvr wrote them, and a pickle can run any code, so "
                "none is read"
            )
        record = json_of(self._process(folder).read_text(encoding="utf-8"))
        if record["format"] != FORMAT or (self.spread and record["processes"] != self.accelerator.num_processes):
            raise ValueError(f"it is of format {record['format']} and of {record['processes']} processes")
        with safe_open(self._weights(folder), "pt") as file:
            held = set(file.keys())
            for name, tensor in self._tensors(held):
                value = file.get_tensor(name)
                if value.shape != _own(tensor).shape or value.dtype != tensor.dtype:
                    raise ValueError(f"{name} is {value.dtype} {list(value.shape)}, not {list(tensor.shape)}")
                with torch.no_grad():
                    _own(tensor).copy_(value)
                held.discard(name)
        if held:
            raise ValueError(f"it holds {min(held)}, which this model does not have")
        self._restore(record)

    def _tensors(self, held: set[str] | None = None) -> Iterator[tuple[str, torch.Tensor]]:
        """Yield each tensor by name; one under two names only once. held: names on disk, by which the optimizer makes
        its moments before they are loaded.
        """
        seen: set[int] = set()
        for name, tensor in self.model.state_dict().items():
            if (place := _own(tensor).data_ptr()) not in seen:
                seen.add(place)
                yield f"model.{name}", tensor
        for place, parameter in enumerate(_parameters(self.optimizer)):
            if held is not None and f"optimizer.{place}.step" in held:
                moments = {name: torch.zeros_like(parameter) for name in ("exp_avg", "exp_avg_sq")}
                self.optimizer.state[parameter] = {"step": torch.zeros((), dtype=torch.float32), **moments}
            if held is not None and f"optimizer.{place}.momentum" in held:
                self.optimizer.state[parameter] = {"momentum": torch.zeros_like(parameter)}
            for name, tensor in self.optimizer.state.get(parameter, {}).items():
                yield f"optimizer.{place}.{name}", tensor
        averages = self.ema.shadow_params if self.ema else ()
        for kind, tensors in (("average", averages), ("beside", self.beside)):
            yield from ((f"{kind}.{place}", tensor) for place, tensor in enumerate(tensors))

    def _record(self) -> dict[str, Any]:
        name, keys, *numbers = np.random.get_state()
        device, scaler = _device(self.accelerator), self.accelerator.scaler
        return {
            "format": FORMAT,
            "processes": self.accelerator.num_processes,
            "step": self.step,
            "seconds": self.seconds,
            "averaged": self.ema.optimization_step if self.ema else 0,
            "scaler": scaler.state_dict() if scaler else None,
            "python": random.getstate(),
            "numpy": [name, np.asarray(keys).tolist(), *numbers],
            "torch": _hex(torch.get_rng_state()),
            "device": _hex(device.get_rng_state()) if device else "",
        }

    def _restore(self, record: dict[str, Any]) -> None:
        self.step, self.seconds = int(record["step"]), float(record["seconds"])
        if self.ema:
            self.ema.optimization_step = int(record["averaged"])
        if self.accelerator.scaler and record["scaler"]:
            self.accelerator.scaler.load_state_dict(record["scaler"])
        version, numbers, rest = record["python"]
        random.setstate((version, tuple(numbers), rest))
        name, keys, *numbers = record["numpy"]
        np.random.set_state((name, np.array(keys, np.uint32), *numbers))
        torch.set_rng_state(_bytes(record["torch"]))
        if (device := _device(self.accelerator)) and record["device"]:
            device.set_rng_state(_bytes(record["device"]))

    def _weights(self, folder: Path) -> Path:
        return folder / f"weights-{self.accelerator.process_index if self.spread else 0:05d}.safetensors"

    def _process(self, folder: Path) -> Path:
        return folder / f"process-{self.accelerator.process_index:05d}.json"


def _parameters(optimizer: torch.optim.Optimizer) -> Iterable[torch.Tensor]:
    return (parameter for group in optimizer.param_groups for parameter in group["params"])


def _own(tensor: torch.Tensor) -> torch.Tensor:
    """Return the part of the tensor that this process has, without its gradient; it shares the memory."""
    return (tensor.to_local() if isinstance(tensor, DTensor) else tensor).detach()


def _device(accelerator: Accelerator) -> Any:
    """Return torch's module of the accelerator's device, such as torch.cuda; None for the CPU."""
    return None if accelerator.device.type == "cpu" else torch.get_device_module(accelerator.device)


def _hex(state: torch.Tensor) -> str:
    return bytes(state.cpu().numpy()).hex()


def _bytes(state: str) -> torch.Tensor:
    return torch.frombuffer(bytearray.fromhex(state), dtype=torch.uint8)


def _pickles(folder: Path) -> Iterator[Path]:
    return (path.relative_to(folder) for path in folder.rglob("*") if path.suffix in PICKLES or path.name in PICKLES)
