"""Workers on a real Ray cluster of two nodes on this machine: nodes, actors and the driver are killed, and no brief is lost."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from clvr_core.batch import Job, Result, paint_on, run_batch
from clvr_core.brief import Brief, Budget
from clvr_core.errors import BadInput
from clvr_core.run.run_folder import JOURNAL
from tests.fleet.crews import Gpus, Killers, Oracle, Squares, TorchThreads
from tests.stickers.oracle import SIZE
from tests.test_batch import BRIEFS, canvases
from tests.waiting import until

ray = pytest.importorskip("ray", reason="the extra `scale` (Ray) is not installed")
from clvr_core.fleet.crew import Lost  # noqa: E402
from clvr_core.fleet.on_ray import Ray, connect  # noqa: E402

ROOT = Path(__file__).parents[2]
KILLS = int(os.environ.get("CLVR_RAY_KILLS", "3"))
"""How often something is killed; 20 for the figures in docs/deployment.md."""


@pytest.fixture(scope="module")
def cluster():
    """A head without workers' room for GPUs and one more node."""
    from ray.cluster_utils import Cluster

    os.environ.setdefault("RAY_raylet_start_wait_time_s", "240")
    # The nodes' processes import the tests' tasks.
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    small = {"object_store_memory": 80 * 2**20, "include_dashboard": False}
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, **small})
    made.add_node(num_cpus=1, object_store_memory=80 * 2**20)
    made.wait_for_nodes()
    yield made
    ray.shutdown()
    made.shutdown()


def jobs() -> list[Job]:
    return [
        Job(f"run-{number}", Brief(BRIEFS[number % 4], seed=number, **SIZE, budget=Budget(rounds=6)))
        for number in range(6)
    ]


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[Path, list[Result]]:
    out = tmp_path_factory.mktemp("whole")
    return out, run_batch(jobs(), Oracle().load(), out, 2)


def on(cluster) -> Ray:
    return Ray(cluster.address, 2, 4)


def test_every_piece_is_done_once_on_both_nodes(cluster):
    with on(cluster).crew(Squares()) as crew:
        assert dict(crew.run(range(12))) == {number: number**2 for number in range(12)}
        with pytest.raises(ValueError, match="-2 has no place here"):
            list(crew.run([-2]))


def test_torch_computes_with_as_many_threads_as_here_so_that_the_bits_are_the_same(cluster):
    import torch

    with on(cluster).crew(TorchThreads()) as crew:
        assert set(dict(crew.run(range(4))).values()) == {torch.get_num_threads()}


@pytest.fixture
def gpus(cluster):
    """A node that says that it has two GPUs: Ray takes its word, and gives them to actors as it would real ones."""
    node = cluster.add_node(num_cpus=1, num_gpus=2, object_store_memory=80 * 2**20)
    cluster.wait_for_nodes()
    connect(cluster.address)
    until(lambda: ray.cluster_resources().get("GPU") == 2, "the cluster knows of its GPUs")
    yield cluster
    cluster.remove_node(node)
    until(lambda: not ray.cluster_resources().get("GPU"), "the cluster has forgotten them")


@pytest.mark.parametrize(
    ("share", "workers", "devices"),
    [(0.5, 4, {"0": 2, "1": 2}), (0.4, 4, {"0": 2, "1": 2}), (1, 2, {"0": 1, "1": 1}), (2, 1, {"0,1": 1})],
)
def test_actors_share_the_gpus_and_see_only_their_own(gpus, tmp_path, share, workers, devices):
    engine = Ray(gpus.address, None, workers, share)
    assert engine.workers == workers, "as many as have room"
    with engine.crew(Gpus(tmp_path, workers)) as crew:
        answers = [answer for _, answer in crew.run(range(workers))]
    assert len({process for process, _, _ in answers}) == workers
    assert Counter(given for _, given, _ in answers) == devices
    assert {told for _, _, told in answers} == {f"{share:g}" if share < 1 else None}


def test_more_gpus_than_any_node_has_are_refused(gpus):
    with pytest.raises(BadInput, match=r"--gpus is 3, and no node of the cluster has so many \(in all 2\)"):
        Ray(gpus.address, None, 4, 3)


def test_what_kills_its_actors_is_given_up_and_the_rest_is_done(cluster, tmp_path):
    with on(cluster).crew(Killers(tmp_path)) as crew:
        done = dict(crew.run([(0, 0), (1, 99), (2, 0)]))
    assert isinstance(done[1], Lost) and done[0] == 0 and done[2] == 2


def test_a_task_that_cannot_be_opened_says_why(cluster):
    with on(cluster).crew(Squares("no such weights")) as crew, pytest.raises(BadInput, match="no such weights"):
        list(crew.run([1]))


def recorded(out: Path) -> int:
    return sum(path.read_bytes().count(b"\n") for path in out.glob(f"*/{JOURNAL}"))


def lines_told_twice(out: Path) -> list[str]:
    """Journals in which a decision or a drawing stands twice."""
    found = []
    for path in sorted(out.glob(f"*/{JOURNAL}")):
        lines = [json.loads(line) for line in path.read_bytes().splitlines()]
        seeds = [each["seed"] for line in lines if line["event"] == "drawn" for each in line["result"]["candidates"]]
        if len(seeds) != len(set(seeds)) or sum(line["event"] == "end" for line in lines) != 1:
            found.append(path.parent.name)
    return found


@pytest.mark.parametrize("number", range(KILLS))
def test_a_batch_in_which_something_is_killed_is_that_of_one_process(cluster, whole, tmp_path, number):
    """By turns: the node that is no head, an actor while it draws, and the driver, whose command is then given again."""
    kind, rng = ("node", "actor", "driver")[number % 3], random.Random(number)
    out, killed = tmp_path / "out", tmp_path / "killed"
    killed.mkdir()
    if kind == "driver":
        _kill_the_driver(cluster, out, rng.randint(8, 30))
    done = []

    def on_event(job: str, event) -> None:
        if isinstance(event, dict) and kind == "node" and not done and recorded(out) >= rng.randint(4, 20):
            done.append(True)
            node = next(each for each in cluster.list_all_nodes() if each is not cluster.head_node)
            cluster.remove_node(node, allow_graceful=False)
            cluster.add_node(num_cpus=1, object_store_memory=80 * 2**20)

    source = Oracle(killed, rng.randint(1, 2)) if kind == "actor" else Oracle()
    results = paint_on(on(cluster), source, lambda models: jobs(), out, on_event)
    assert results == whole[1] and canvases(out) == canvases(whole[0]) and not lines_told_twice(out)


def _kill_the_driver(cluster, out: Path, after: int) -> None:
    """Begin the batch in a process of its own, and kill it once so many lines are recorded."""
    script = (
        "import sys; from pathlib import Path; from clvr_core.batch import paint_on; from clvr_core.fleet.on_ray import Ray\n"
        "from tests.fleet.crews import Oracle; from tests.fleet.test_on_ray import jobs\n"
        "paint_on(Ray(sys.argv[1], 2, 4), Oracle(), lambda models: jobs(), Path(sys.argv[2]))"
    )
    with subprocess.Popen([sys.executable, "-c", script, cluster.address, out], cwd=ROOT) as driver:
        until(lambda: recorded(out) >= after or driver.poll() is not None, "the driver gets on")
        driver.send_signal(signal.SIGKILL)


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("127.0.0.1:1", "the Ray cluster 127.0.0.1:1 cannot be used: nobody listens there"),
        ("somewhere", "--address is 'somewhere'; write HOST:PORT"),
        ("ray://127.0.0.1:10001", "by `ray job submit`"),
    ],
)
def test_an_address_that_cannot_be_used_is_said_in_a_sentence(cluster, monkeypatch, address, says):
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with pytest.raises(BadInput, match=says):
        connect(address)
