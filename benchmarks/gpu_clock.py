"""How gpu_loop.py takes its times, on a GPU and without one, and how it tells them."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from clvr_core.storage.atomic import write_bytes
from clvr_core.vlm.steps import cuda_graph


class Cpu:
    """Where it runs, and how time is taken there: all that is another on a GPU."""

    name, where, dtype, product, block = "CPU", "cpu", torch.float32, 512, 1 << 24
    compiles: dict[str, Any] | None = None
    """How torch compiles here, None for not at all."""

    def mark(self) -> Any:
        return time.perf_counter()

    def seconds(self, start: Any, end: Any) -> float:
        return end - start

    def wait(self) -> None:
        pass

    def held(self) -> int:
        """Bytes of its memory in use."""
        return 0

    def record(self, step: Callable[[], torch.Tensor]) -> Callable[[], torch.Tensor]:
        return step


class Gpu(Cpu):
    """Events are read only at the end, so that nothing waits for them."""

    where, dtype, product, block = "cuda", torch.bfloat16, 8192, 1 << 30
    compiles: dict[str, Any] | None = {}  # noqa: RUF012 (what torch has as default)

    def __init__(self) -> None:
        self.name = torch.cuda.get_device_name()

    def mark(self) -> Any:
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def seconds(self, start: Any, end: Any) -> float:
        return start.elapsed_time(end) / 1000

    def wait(self) -> None:
        torch.cuda.synchronize()

    def held(self) -> int:
        return torch.cuda.memory_allocated()

    def record(self, step: Callable[[], torch.Tensor]) -> Callable[[], torch.Tensor]:
        return cuda_graph(step)


def here() -> Cpu:
    return Gpu() if torch.cuda.is_available() else Cpu()


class Clock:
    """Seconds by stage, and FLOPs of those that are `counted`, which is slow."""

    def __init__(self, device: Cpu) -> None:
        self.device = device
        self.spans: dict[str, list[tuple[Any, Any]]] = defaultdict(list)
        self.counts: dict[str, int] = {}
        self.counted: Sequence[str] = ()
        self.flops: dict[str, int] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        started = self.device.mark()
        if name not in self.counted:
            yield
        else:
            with FlopCounterMode(display=False) as counter:
                yield
            self.flops[name] = self.flops.get(name, 0) + counter.get_total_flops()
        self.spans[name].append((started, self.device.mark()))

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **more: Any) -> Any:
            with self.stage(name):
                return function(*arguments, **more)

        return call

    def seconds(self) -> dict[str, float]:
        self.device.wait()
        found = {name: sum(self.device.seconds(*span) for span in spans) for name, spans in self.spans.items()}
        self.counts = {name: len(spans) for name, spans in self.spans.items()}
        self.spans.clear()
        return found


def once(device: Cpu, work: Callable[[], Any]) -> float:
    clock = Clock(device)
    with clock.stage("x"):
        work()
    return clock.seconds()["x"]


class Sections:
    """Prints and writes down each as soon as it is there."""

    def __init__(self, file: Path | None, seconds: float, head: dict[str, Any]) -> None:
        self.file, self.limit, self.result = file, seconds, head | {"failed": {}}
        self.started = time.perf_counter()

    def spent(self) -> float:
        return time.perf_counter() - self.started

    def say(self, text: str) -> None:
        print(text, flush=True)

    def measure(self, name: str, work: Callable[[], Any]) -> Any:
        """What `work` returns, also in the file; None if it fails or there is no time left for it."""
        spent = self.spent()
        if spent > self.limit:
            self._failed(name, f"left out, since {spent:.0f} s are spent of {self.limit:g}")
            return None
        try:
            found = work()
        except Exception as error:  # torch, its compilers, CUDA and the libraries each raise their own kinds
            first = next(iter(str(error).strip().splitlines()), "")
            self._failed(name, f"failed: {type(error).__name__}: {first[:300]}")
            return None
        self.result[name] = found
        self._write()
        return found

    def _failed(self, name: str, why: str) -> None:
        self.say(f"{name}: {why}")
        self.result["failed"][name] = why
        self._write()

    def _write(self) -> None:
        if self.file:
            write_bytes(self.file, (json.dumps(self.result, indent=1) + "\n").encode())
