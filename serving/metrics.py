"""What Prometheus reads at /metrics. One registry an app, so that several may live in one process."""

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from serving.engine_protocol import Stats

OF = ["model", "version"]
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        self.requests = Counter(
            "octavo_requests", "answers by outcome", ["model", "version", "outcome"], registry=registry
        )
        self.refusals = Counter("octavo_refusals", "requests refused by status", ["status"], registry=registry)
        self.prompt_tokens = Counter("octavo_prompt_tokens", "tokens read", OF, registry=registry)
        self.completion_tokens = Counter("octavo_completion_tokens", "tokens written", OF, registry=registry)
        self.first_token = Histogram(
            "octavo_time_to_first_token_seconds", "arrival to first token", OF, buckets=SECONDS,
            registry=registry,
        )  # fmt: skip
        self.inter_token = Histogram(
            "octavo_inter_token_seconds", "between tokens of one answer", OF, buckets=SECONDS, registry=registry
        )
        self._gauges = {
            "waiting": Gauge("octavo_queue_requests", "requests that wait", OF, registry=registry),
            "running": Gauge("octavo_batch_requests", "requests in the batch", OF, registry=registry),
            "used_blocks": Gauge("octavo_kv_blocks_used", "KV blocks in use", OF, registry=registry),
            "num_blocks": Gauge("octavo_kv_blocks", "KV blocks there are", OF, registry=registry),
            "preemptions": Gauge("octavo_preemptions", "answers begun again for want of blocks", OF,
                                 registry=registry),
        }  # fmt: skip

    def render(self, stats: Mapping[tuple[str, str], Stats]) -> bytes:
        """The exposition text. `stats`: (model, version) -> its engine as it is now; what is gone has no gauges."""
        for name, gauge in self._gauges.items():
            gauge.clear()
            for labels, snapshot in stats.items():
                gauge.labels(*labels).set(getattr(snapshot, name))
        return generate_latest(self.registry)
