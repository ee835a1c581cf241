"""Plans how the models of a run share a device, by the sizes in the headers of their safetensors files."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from types import MappingProxyType
from typing import Literal, NamedTuple

from ..errors import BadInput
from ..weights.checkpoint import Checkpoint, File
from ..weights.dtypes import FLOATS
from ..weights.quantised import dequantised
from ..weights.shared import shared_parts

Mode = Literal["resident", "sequential", "offloaded", "streamed"]
MODES: tuple[Mode, ...] = Mode.__args__
GPU_SHARE = "CLVR_GPU_SHARE"
"""Environment variable of a worker that has a GPU not to itself: its share of it, above 0 and below 1."""
ITEM = {"bfloat16": 2, "float16": 2, "float32": 4, "fp8": 1}
SHORT = {"transformer": "DiT", "unet": "UNet", "text_encoder": "text encoder", "vae": "VAE"}


class Headroom(NamedTuple):
    """Bytes for activations and caches beside the weights.

    drawing: of the executor, for one picture of 1024 x 1024 from up to three references, measured by
        benchmarks/activations.py. A batch that needs more is drawn in halves.
    reading: of a vision-language model of 4B or 8B, at 144 KiB a token.
    """

    drawing: int = 3_500_000_000
    reading: int = 2_000_000_000


HEADROOM, NONE = Headroom(), Headroom(0, 0)


@dataclass(frozen=True, slots=True)
class Weights:
    """The size of one part of a model.

    name: for a person.
    nbytes: in memory.
    owner: the model that the part belongs to, `executor`, `controller` or `verifier`; parts of one owner are used one
        after the other.
    """

    name: str
    nbytes: int
    owner: str = "executor"


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """How models share a device.

    mode: `resident`: all weights stay on the device. `sequential`: one model at a time is on it. `offloaded`: as
        sequential, and of the executor one part at a time. `streamed`: as sequential, and of the executor one layer at
        a time.
    weights: of the parts that share the device.
    free: bytes on the device; None if not known.
    fits: whether the mode fits into the free memory.
    """

    mode: Mode
    weights: tuple[Weights, ...]
    free: int | None
    fits: bool

    @property
    def largest(self) -> str:
        """Name of the weights that need most, where a model other than the executor's can be a smaller one."""
        return max(self.weights, key=lambda each: each.nbytes * (each.owner != "executor")).name

    @property
    def summary(self) -> str:
        """Sizes, free memory and mode, in one line for a person."""
        sizes = ", ".join(f"{each.name} {_gb(each.nbytes)}" for each in self.weights) or "no weights here"
        free = "" if self.free is None else f"; {_gb(self.free)} free"
        return f"{sizes}{free}: {_how(self)}"


def plan(
    weights: Sequence[Weights], free: int | None, mode: Mode | Literal["auto"] = "auto", headroom: Headroom = HEADROOM
) -> MemoryPlan:
    """Choose the fastest mode that fits, or take `mode` if it is not `auto`.

    free: bytes on the device; None, not known, makes every mode fit.
    """
    weights = tuple(weights)

    def fits(each: Mode) -> bool:
        return free is None or not weights or peak(weights, each, headroom) <= free

    fitting: list[Mode] = [each for each in MODES if fits(each)]
    chosen = mode if mode != "auto" else fitting[0] if fitting else MODES[-1]
    return MemoryPlan(chosen, weights, free, fits(chosen))


def peak(weights: Sequence[Weights], mode: Mode, headroom: Headroom = NONE) -> int:
    """Return the most bytes that are on the device at once: weights, and the activations of the model that works."""
    owners: dict[str, list[int]] = {}
    for each in weights:
        owners.setdefault(each.owner, []).append(each.nbytes)
    spare = {owner: headroom.drawing if owner == "executor" else headroom.reading for owner in owners}
    if mode == "resident":
        return sum(map(sum, owners.values())) + max(spare.values(), default=0)
    executor = {"sequential": sum, "offloaded": max, "streamed": lambda parts: 0}[mode]
    return max(
        (spare[owner] + (executor if owner == "executor" else sum)(parts) for owner, parts in owners.items()), default=0
    )


def _how(plan: MemoryPlan) -> str:
    owners = {each.owner for each in plan.weights}
    if not plan.fits:
        return f"too little for {plan.largest}; choose a smaller model, fp8, or put it behind a server"
    if plan.mode == "resident":
        return "both fit" if len(owners) == 2 else "all fit" if len(owners) > 2 else "it fits"
    return {
        "sequential": "they take turns on the device",
        "offloaded": "they take turns, and so do the executor's parts",
        "streamed": "they take turns, and the executor's layers are brought in one by one, which is slow",
    }[plan.mode]


def _gb(nbytes: int) -> str:
    return f"{nbytes / 1e9:.1f} GB" if nbytes >= 5e7 else f"{nbytes / 1e6:.0f} MB"


def model_weights(folder: Path, item: int, name: str = "VLM", owner: str = "controller") -> Weights:
    """Return the size of a model in one folder. item: bytes of a number in memory."""
    return Weights(name, _sum(_files(folder), item), owner)


def file_weights(
    path: Path, name: str, owner: str = "executor", item: int | None = None, wide: bool = False
) -> Weights:
    """Return the size of a model in one file.

    item: bytes of a number in memory; None if it stays as stored.
    wide: where numbers stay as stored, those of 16 bits are loaded as fp32.

    Raises BadInput for a damaged file.
    """
    if item is not None:
        return Weights(name, _sum([path], item), owner)
    stored = path.stat().st_size
    more = _of_16_bits(path) if wide and path.suffix in (".safetensors", ".sft") else 0
    return Weights(name, stored + more, owner)


def _of_16_bits(path: Path) -> int:
    """Return the bytes of the tensors in the file whose numbers have 16 bits."""
    file = File(path)
    try:
        return sum(tensor.nbytes for tensor in file.tensors.values() if tensor.dtype in ("BF16", "F16"))
    finally:
        file.close()


def pipeline_weights(
    folder: Path | None,
    item: int,
    files: Mapping[str, Path] = MappingProxyType({}),
    storage: int | None = None,
    layers: int | None = None,
) -> list[Weights]:
    """Return the sizes of the parts of a diffusers pipeline, largest first.

    item: bytes of a number in memory.
    files: parts, by name, that take the place of the folder's own.
    storage: bytes of a number of the transformer, if not `item`.
    layers: of the text encoder that are loaded; None for all.

    Raises BadInput for a damaged file.
    """
    held = {part.name: _files(part) for part in sorted(folder.iterdir()) if part.is_dir()} if folder else {}
    held |= {name: _files(place) for name, place in shared_parts(folder).items()} if folder else {}
    held |= {name: [path] for name, path in files.items()}
    sizes = {"transformer": storage or item}
    found = {
        name: _sum(paths, sizes.get(name, item), layers if name == "text_encoder" else None, name in files)
        for name, paths in held.items()
    }
    weights = [Weights(SHORT.get(name, name.replace("_", " ")), nbytes) for name, nbytes in found.items() if nbytes]
    return sorted(weights, key=lambda each: -each.nbytes)


def _files(folder: Path) -> list[Path]:
    """Return the safetensors files that a library loads from the folder: its shards, or the file without a variant in
    its name.
    """
    for index in sorted(folder.glob("*.safetensors.index.json"), key=lambda path: len(path.name)):
        try:
            return [
                folder / Path(name).name for name in sorted(set(json.loads(index.read_text())["weight_map"].values()))
            ]
        except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
            raise BadInput(f"{index} is damaged ({str(error)[:100]}); download the folder again") from error
    return sorted(folder.glob("*.safetensors"), key=lambda path: (len(path.name), path.name))[:1]


def _sum(files: Iterable[Path], item: int, layers: int | None = None, values: bool = False) -> int:
    """Return the bytes of the weights in memory.

    values: quantised weights are loaded as the numbers that they stand for, as those of a file in ComfyUI's formats are;
        otherwise integers stay as stored.
    """
    total = 0
    for path in files:
        file = File(path)
        try:
            tensors = dequantised(Checkpoint(path, (file,), file.tensors))[0].tensors if values else file.tensors
            for name, tensor in tensors.items():
                number = re.match(r"model\.(?:language_model\.)?layers\.(\d+)\.", name)
                if layers is not None and (
                    (number and int(number[1]) >= layers) or name.startswith(("lm_head.", "model.visual."))
                ):
                    continue
                numbers = tensor.dtype in FLOATS or tensor.codec is not None
                total += prod(tensor.shape) * item if numbers else tensor.nbytes
        finally:
            file.close()
    return total


def free_bytes(device: str) -> int | None:
    """Return the free bytes of a device, named as torch has it; None if not known.

    Of a GPU that several workers share (GPU_SHARE) no more than this one's share of all.
    """
    import torch

    kind = torch.device(device).type
    if kind == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        return min(free, int(total * float(os.environ.get(GPU_SHARE, 1))))
    return available() if kind == "cpu" else None


def available(meminfo: Path = Path("/proc/meminfo")) -> int | None:
    """Return the bytes that Linux can give without swapping; None on another system.

    MemFree would be too little: after weights were read, most of the memory caches files.
    """
    try:
        kilobytes = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())["MemAvailable"].split()[0]
    except (OSError, KeyError):
        return None
    return int(kilobytes) << 10
