"""What the service counts, for Prometheus."""

from __future__ import annotations

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from ..trajectory import Trajectory

SECONDS = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800)


class Metrics:
    """Counters of one service, apart from those of others in the same process."""

    MEDIA = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter("clvr_requests", "Answers by their status", ["status"], registry=self.registry)
        self.runs = Counter("clvr_runs", "Runs by how they ended", ["state"], registry=self.registry)
        self.seconds = Histogram("clvr_run_seconds", "Wall time of a run", buckets=SECONDS, registry=self.registry)
        self.rounds = Counter("clvr_rounds", "Rounds that drew", registry=self.registry)
        self.images = Counter("clvr_images", "Pictures drawn", registry=self.registry)
        self.tokens = Counter("clvr_vlm_tokens", "Tokens of the vision-language model", registry=self.registry)
        self.waiting = Gauge("clvr_waiting", "Runs under way or waiting for a place", registry=self.registry)
        self.under_way = Gauge("clvr_under_way", "Runs under way", registry=self.registry)

    def ended(self, trajectory: Trajectory, seconds: float) -> None:
        """Count a run that has ended."""
        outcome = trajectory.outcome
        self.runs.labels("met" if outcome and outcome.met else "unmet").inc()
        self.seconds.observe(seconds)
        self.rounds.inc(sum(step.action.draws for step in trajectory.steps))
        self.images.inc(trajectory.cost.images)
        self.tokens.inc(trajectory.cost.vlm_tokens)

    def text(self) -> bytes:
        return generate_latest(self.registry)
