"""The files of docs/deployment: what Ray and KubeRay would say of them."""

from __future__ import annotations

import json
import os
import re
import shlex
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from clvr_core.cli import _parser

yaml = pytest.importorskip("yaml")
ROOT = Path(__file__).parents[2]
FILES = ROOT / "docs" / "deployment"
RAY = re.search(r"^ray==(.+)$", (ROOT / "constraints.txt").read_text(), re.M)[1]


def read(name: str) -> Any:
    return yaml.safe_load((FILES / name).read_text())


def test_the_job_s_command_is_one_of_clvr_and_asks_for_what_its_machines_have():
    job = read("kuberay.yaml")["spec"]
    program, *words = shlex.split(job["entrypoint"])
    options = _parser().parse_args(words)
    (group,) = job["rayClusterSpec"]["workerGroupSpecs"]
    (container,) = group["template"]["spec"]["containers"]
    gpus = int(container["resources"]["limits"]["nvidia.com/gpu"]) * group["maxReplicas"]
    assert program == "clvr" and options.engine == "ray" and options.workers * options.gpus <= gpus
    mounted = [mount["mountPath"] for mount in container["volumeMounts"]]
    assert all(str(path).startswith(mounted[0]) for path in (options.prompts, options.models, options.out))


def test_all_files_name_the_ray_of_the_constraints():
    assert read("kuberay.yaml")["spec"]["rayClusterSpec"]["rayVersion"] == RAY
    assert f"FROM rayproject/ray:{RAY}-" in (FILES / "Dockerfile").read_text()


def test_ray_takes_the_cluster_s_file():
    ray = pytest.importorskip("ray", reason="the extra `scale` (Ray) is not installed")
    schema = json.loads((Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text())
    jsonschema.validate(read("ray-up.yaml"), schema)


def strict(schema: Any) -> None:
    """Have a schema of Kubernetes refuse fields that it does not name, as `kubectl --dry-run=server --validate=strict` does."""
    for each in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ():
        strict(each)
    if not isinstance(schema, dict):
        return
    if schema.get("x-kubernetes-int-or-string"):
        schema.pop("anyOf", None), schema.pop("pattern", None)
        schema["type"] = ["integer", "string"]
    if schema.get("type") == "object" and isinstance(schema.get("properties"), dict):
        schema.setdefault("additionalProperties", bool(schema.get("x-kubernetes-preserve-unknown-fields")))


@pytest.mark.skipif("CLVR_KUBERAY" not in os.environ, reason="CLVR_KUBERAY names no clone of KubeRay")
def test_kuberay_takes_the_job():
    path = Path(os.environ["CLVR_KUBERAY"], "ray-operator", "config", "crd", "bases", "ray.io_rayjobs.yaml")
    versions = yaml.safe_load(path.read_text())["spec"]["versions"]
    schema = next(each for each in versions if each["name"] == "v1")["schema"]["openAPIV3Schema"]
    strict(schema)
    schema["properties"]["metadata"] = {"type": "object"}
    jsonschema.validate(read("kuberay.yaml"), schema)
