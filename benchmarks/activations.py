"""What drawing takes beside the weights at the published sizes: the most bytes alive at once, traced with tensors that hold nothing.

What a device's own kernels take for a while is not in it, nor what its allocator loses between blocks.

python benchmarks/activations.py [--side 1024] [--batch 1 4] [--references 0 1 2 4]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from diffusers import AutoencoderKLFlux2, Flux2Transformer2DModel
from gpu_models import SIZES
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Live(TorchDispatchMode):
    """Counts what operations make until it is gone. `before`: tensors that were there, whose views are not counted."""

    def __init__(self, before: list[torch.Tensor]) -> None:
        super().__init__()
        self.known = {each.untyped_storage()._cdata for each in before}
        self.held: dict[int, tuple[StorageWeakRef, int]] = {}
        self.most = 0

    def __torch_dispatch__(self, operation: Any, types: Any, given: tuple = (), more: dict | None = None) -> Any:
        made = operation(*given, **(more or {}))
        self.held = {key: pair for key, pair in self.held.items() if not pair[0].expired()}
        for each in tree_leaves(made):
            if isinstance(each, torch.Tensor) and (key := each.untyped_storage()._cdata) not in self.known:
                self.held[key] = StorageWeakRef(each.untyped_storage()), each.untyped_storage().nbytes()
        self.most = max(self.most, sum(nbytes for _, nbytes in self.held.values()))
        return made


def most(model: torch.nn.Module, call: Callable[[], Any]) -> float:
    """GB."""
    live = Live([*model.parameters(), *model.buffers()])
    with torch.inference_mode(), live:
        call()
    return live.most / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=1024)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--references", type=int, nargs="+", default=[0, 1, 2, 4])
    options = parser.parse_args()
    tokens = (options.side // 16) ** 2
    print(f"GB alive at once beside the weights, {options.side} x {options.side}, bf16\n")
    print("| | " + " | ".join(f"batch {batch}" for batch in options.batch) + " |\n|---|" + "---:|" * len(options.batch))

    def row(name: str, model: torch.nn.Module, call: Callable[[int], Any]) -> None:
        taken = [most(model, partial(call, batch)) for batch in options.batch]
        print(f"| {name} | " + " | ".join(f"{each:.1f}" for each in taken) + " |", flush=True)

    torch.set_default_dtype(torch.bfloat16)
    with FakeTensorMode(allow_non_fake_inputs=True):
        vae = AutoencoderKLFlux2().eval()
        row("VAE decode", vae, lambda batch: vae.decode(torch.empty(batch, 32, options.side // 8, options.side // 8)))
        row("VAE encode", vae, lambda batch: vae.encode(torch.empty(batch, 3, options.side, options.side)))
        for name, size in SIZES.items():
            transformer = Flux2Transformer2DModel(**size.transformer).eval()
            for references in options.references:
                count = tokens * (1 + references)

                def denoise(batch: int, count: int = count, model: Any = transformer, size: Any = size) -> Any:
                    return model(
                        hidden_states=torch.empty(batch, count, model.config.in_channels),
                        encoder_hidden_states=torch.empty(batch, size.words, model.config.joint_attention_dim),
                        timestep=torch.empty(batch),
                        img_ids=torch.empty(count, 4, dtype=torch.long),
                        txt_ids=torch.empty(size.words, 4, dtype=torch.long),
                        return_dict=False,
                    )

                row(f"{name} denoise, {references} references", transformer, denoise)


if __name__ == "__main__":
    main()
