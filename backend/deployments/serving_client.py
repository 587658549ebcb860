"""What serving says of itself: its deployments, and its metrics."""

import time
from collections.abc import Iterable
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample
from pydantic import TypeAdapter, ValidationError

from backend.auth import serving_key
from backend.deployments.schemas import LatencySchema, LiveSchema, LiveVersionSchema, ServingReport
from backend.settings import Settings

REPORTS: TypeAdapter[list[ServingReport]] = TypeAdapter(list[ServingReport])
COUNTS = {
    "octavo_requests_total": "requests",
    "octavo_prompt_tokens_total": "prompt_tokens",
    "octavo_completion_tokens_total": "completion_tokens",
    "octavo_batch_requests": "running",
    "octavo_queue_requests": "waiting",
}
LATENCIES = {
    "octavo_time_to_first_token_seconds_bucket": "first_token",
    "octavo_inter_token_seconds_bucket": "inter_token",
}


def ask_serving(settings: Settings) -> list[ServingReport]:
    """What serving says of its deployments.

    Raises:
        ValueError: it does not answer, or not as agreed.
    """
    try:
        return REPORTS.validate_json(_get(settings, "/deployments"))
    except ValidationError as error:
        url = f"{settings.serving_url}/deployments"
        raise ValueError(f"{url} does not answer like serving; check OCTAVO_SERVING_URL") from error


def read_metrics(settings: Settings) -> LiveSchema:
    """Raises: ValueError: serving does not answer."""
    families = text_string_to_metric_families(_get(settings, "/metrics").decode())
    return LiveSchema(
        time=time.time(), versions=live_versions(sample for family in families for sample in family.samples)
    )


def live_versions(samples: Iterable[Sample]) -> list[LiveVersionSchema]:
    """Prometheus' samples by model and version."""
    counts: dict[tuple[str, str], dict[str, int]] = {}
    buckets: dict[tuple[str, str], dict[str, dict[float, int]]] = {}
    for sample in samples:
        labels = sample.labels
        key, value = (labels.get("model", ""), labels.get("version", "")), int(sample.value)
        names = [COUNTS[sample.name]] if sample.name in COUNTS else []
        if names == ["requests"] and labels["outcome"] == "error":
            names.append("failed")
        for name in names:
            found = counts.setdefault(key, {})
            found[name] = found.get(name, 0) + value
        if sample.name in LATENCIES:
            buckets.setdefault(key, {}).setdefault(LATENCIES[sample.name], {})[float(labels["le"])] = value
    return [_live(key, counts.get(key, {}), buckets.get(key, {})) for key in sorted(counts.keys() | buckets.keys())]


def _live(key: tuple[str, str], counts: dict[str, int], buckets: dict[str, dict[float, int]]) -> LiveVersionSchema:
    values: dict[str, Any] = {name: _latency(buckets.get(name, {})) for name in LATENCIES.values()}
    return LiveVersionSchema(model_name=key[0], version=key[1], **counts, **values)


def _latency(cumulative: dict[float, int]) -> LatencySchema:
    """Prometheus counts what lasted at most so long; here each bucket by itself."""
    bounds = sorted(cumulative)
    before = [0, *(cumulative[bound] for bound in bounds)]
    counts = [cumulative[bound] - before[place] for place, bound in enumerate(bounds)]
    return LatencySchema(bounds=[bound if bound != float("inf") else None for bound in bounds], counts=counts)


def _get(settings: Settings, path: str) -> bytes:
    try:
        headers = {"Authorization": f"Bearer {serving_key(settings)}"}
        answer = httpx.get(settings.serving_url + path, headers=headers, timeout=5)
        answer.raise_for_status()
    except httpx.HTTPStatusError as error:
        raise ValueError(f"serving at {settings.serving_url} answered {error.response.status_code}") from error
    except httpx.HTTPError as error:
        raise ValueError(f"serving does not answer at {settings.serving_url}; is it running?") from error
    return answer.content
