"""What pip would do with requirements.txt beside an older and a newer transformers: keep it, and find a diffusers that goes with it.

Nothing is installed or downloaded but what pip must read to decide. The environments are papers only: names, versions and what each of
them needs of the others.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check")
ASKED = ("--dry-run", "--quiet", "--only-binary", ":all:", "--retries", "1", "--timeout", "20", "--report", "-")

OTHERS = {
    **{
        "torch": "2.13.0",
        "numpy": "2.2.6",
        "pillow": "12.0.0",
        "safetensors": "0.8.0",
        "tqdm": "4.67.1",
        "tomli": "2.2.1",
    },
    **{
        "packaging": "25.0",
        "pyyaml": "6.0.2",
        "regex": "2025.9.1",
        "requests": "2.32.5",
        "filelock": "3.19.1",
        "psutil": "7.0.0",
    },
    **{"fsspec": "2025.9.0", "typing-extensions": "4.15.0", "httpx": "0.28.1", "importlib-metadata": "8.7.0"},
}
OLDER = {
    ("transformers", "4.57.6"): ("huggingface-hub<1.0,>=0.34.0", "tokenizers<=0.23.0,>=0.22.0"),
    ("huggingface-hub", "0.36.0"): (),
    ("tokenizers", "0.22.1"): ("huggingface-hub<2.0,>=0.16.4",),
}
NEWER = {
    ("transformers", "5.23.0"): ("huggingface-hub<3.0,>=1.3.0", "tokenizers<=0.24.0,>=0.22.0"),
    ("huggingface-hub", "1.33.0"): (),
    ("tokenizers", "0.23.0"): ("huggingface-hub<2.0,>=0.16.4",),
}


def environment(base: Path, installed: dict[tuple[str, str], tuple[str, ...]]) -> Path:
    """The Python of a virtual environment in which these seem to be installed."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", base], check=True)
    (site,) = [*base.glob("lib/python3*/site-packages"), *base.glob("Lib/site-packages")]
    for (name, version), needs in (installed | dict.fromkeys(OTHERS.items(), ())).items():
        papers = site / f"{name.replace('-', '_')}-{version}.dist-info"
        papers.mkdir()
        told = [
            "Metadata-Version: 2.1",
            f"Name: {name}",
            f"Version: {version}",
            *(f"Requires-Dist: {need}" for need in needs),
        ]
        (papers / "METADATA").write_text("\n".join(told) + "\n")
        (papers / "RECORD").touch()
    return next(path for path in (base / "bin" / "python", base / "Scripts" / "python.exe") if path.exists())


@pytest.fixture(scope="module")
def resolved(tmp_path_factory) -> dict[str, dict[str, str]]:
    """For each environment what pip would install into it, by name."""
    if subprocess.run([*PIP, "--version"], capture_output=True).returncode:
        pytest.skip("no pip here to ask what it would install")
    asked = {}
    for name, installed in (("older", OLDER), ("newer", NEWER)):
        python = environment(tmp_path_factory.mktemp("resolving") / name, installed)
        words = [*PIP, "--python", python, "install", *ASKED, "-r", ROOT / "requirements.txt"]
        asked[name] = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    answers = {name: (*process.communicate(), process.returncode) for name, process in asked.items()}
    if any(code for *_, code in answers.values()):
        probe = subprocess.run(
            [*PIP, "install", *ASKED, "--ignore-installed", "--no-deps", "tqdm"], capture_output=True
        )
        if probe.returncode:
            pytest.skip("no package index answers: what pip would install cannot be told")
    assert not any(code for *_, code in answers.values()), [said[-2000:] for _, said, _ in answers.values()]
    listed = {name: json.loads(out)["install"] for name, (out, _, _) in answers.items()}
    return {
        name: {each["metadata"]["name"].lower(): each["metadata"]["version"] for each in found}
        for name, found in listed.items()
    }


def minor(version: str) -> tuple[int, int]:
    return tuple(map(int, version.split(".")[:2]))


def test_an_older_transformers_is_kept_and_gets_an_older_diffusers(resolved):
    assert not resolved["older"].keys() & {
        "transformers",
        "huggingface-hub",
        "huggingface_hub",
        "tokenizers",
        "torch",
        "numpy",
    }
    assert (0, 38) <= minor(resolved["older"]["diffusers"]) < (0, 40) and "accelerate" in resolved["older"]


def test_a_newer_transformers_is_kept_and_gets_a_newer_diffusers(resolved):
    assert not resolved["newer"].keys() & {
        "transformers",
        "huggingface-hub",
        "huggingface_hub",
        "tokenizers",
        "torch",
        "numpy",
    }
    assert minor(resolved["newer"]["diffusers"]) > minor(resolved["older"]["diffusers"])
