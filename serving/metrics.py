"""What Prometheus reads at /metrics. One registry an app, so that several may live in one process."""

from collections.abc import Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import HistogramMetricFamily

from serving.engine_protocol import Stats
from serving.histogram import SECONDS

OF = ["model", "version"]
ENGINE_HISTOGRAMS = {
    "queue_seconds": ("octavo_queue_time_seconds", "arrival at the engine to the first step"),
    "batch_size": ("octavo_batch_size", "requests in a step"),
    "kv_use": ("octavo_kv_use_ratio", "share of the KV blocks in use in a step"),
}


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

        self._engines = _EngineHistograms()
        registry.register(self._engines)

    def render(self, stats: Mapping[tuple[str, str], Stats]) -> bytes:
        """The exposition text. `stats`: (model, version) -> its engine as it is now; what is gone has no gauges."""
        self._engines.stats = stats
        for name, gauge in self._gauges.items():
            gauge.clear()
            for labels, snapshot in stats.items():
                gauge.labels(*labels).set(getattr(snapshot, name))
        return generate_latest(self.registry)


class _EngineHistograms:
    """Histograms that the engines keep themselves."""

    def __init__(self) -> None:
        self.stats: Mapping[tuple[str, str], Stats] = {}

    def collect(self) -> Iterator[HistogramMetricFamily]:
        for name, (metric, text) in ENGINE_HISTOGRAMS.items():
            family = HistogramMetricFamily(metric, text, labels=OF)
            for labels, snapshot in self.stats.items():
                if (counts := snapshot.histograms.get(name)) is not None:
                    family.add_metric(labels, counts.buckets(), counts.total)
            yield family
