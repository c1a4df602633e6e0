"""What Prometheus is told. No label has more than a few values: no ids, no keys, no names of models."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from fettle.answering.engine_pool import PoolLoad
from fettle.errors import FettleError
from fettle.server.shadowing import ShadowOutcome
from fettle.store.database import Store
from fettle.store.jobs import JobStatus, count_jobs
from fettle.store.workers import read_workers
from fettle.traffic.keeper import KeeperCounts

_SECONDS = (0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
_SEARCH_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0)
_METHODS = ("GET", "POST", "DELETE", "HEAD", "OPTIONS", "PUT", "PATCH")


class Metrics:
    """The numbers of one server process, and of the store that it shares with others."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._requests = Counter(
            "fettle_requests", "Requests answered.", ["method", "route", "status"], registry=self._registry
        )
        self._request_seconds = Histogram(
            "fettle_request_seconds",
            "Seconds until the last byte of an answer.",
            ["method", "route"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._tokens = Counter("fettle_tokens", "Tokens read and written.", ["direction"], registry=self._registry)
        self._first_token_seconds = Histogram(
            "fettle_first_token_seconds",
            "Seconds until the first token of an answer.",
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._routed = Counter(
            "fettle_routed",
            "Requests that routers have answered.",
            ["answered_by", "reason"],
            registry=self._registry,
        )
        self._search_seconds = Histogram(
            "fettle_search_seconds",
            "Seconds that searches in indexes took.",
            buckets=_SEARCH_SECONDS,
            registry=self._registry,
        )

    def on_search(self, seconds: float) -> None:
        """An index was searched."""
        self._search_seconds.observe(seconds)

    def on_request(self, *, method: str, route: str, status: int, seconds: float) -> None:
        """A request was answered."""
        method = method if method in _METHODS else "other"
        self._requests.labels(method, route, str(status)).inc()
        self._request_seconds.labels(method, route).observe(seconds)

    def on_tokens(self, *, num_read: int, num_written: int) -> None:
        """A model has read a prompt and written an answer."""
        self._tokens.labels("in").inc(num_read)
        self._tokens.labels("out").inc(num_written)

    def on_routed(self, answered_by: str, reason: str) -> None:
        """A router has answered: which of its contenders, and why that one."""
        self._routed.labels(answered_by, reason).inc()

    def on_first_token(self, seconds: float) -> None:
        """So long an answer let wait for its first token."""
        self._first_token_seconds.observe(seconds)

    def watch_store(self, store: Store) -> None:
        """Tell of jobs and workers too."""
        self._registry.register(_OfStore(store))

    def watch_engines(self, look: Callable[[], PoolLoad]) -> None:
        """Tell of the engines too."""
        self._registry.register(_OfEngines(look))

    def watch_keeper(self, look: Callable[[], KeeperCounts]) -> None:
        """Tell what became of requests that were to be kept, too."""
        self._registry.register(_OfKeeper(look))

    def watch_shadows(self, look: Callable[[], Mapping[ShadowOutcome, int]]) -> None:
        """Tell what became of requests that a challenger was to answer unseen, too."""
        self._registry.register(_OfShadows(look))

    def text(self) -> bytes:
        """All of it in Prometheus' text format."""
        return generate_latest(self._registry)


class _OfStore(Collector):
    """Asks the store each time: other processes write there as well."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def describe(self) -> Iterable[Metric]:
        """Nothing: to register must not ask the database."""
        return []

    def collect(self) -> Iterable[Metric]:
        """Jobs by status, and workers."""
        try:
            with self._store.reading() as connection:
                counts = count_jobs(connection)
                seen = read_workers(connection)
        except FettleError:
            yield _gauge("fettle_database_up", "Whether the database answers.", 0)
            return
        yield _gauge("fettle_database_up", "Whether the database answers.", 1)
        jobs = GaugeMetricFamily("fettle_jobs", "Jobs by status.", labels=["status"])
        for status in JobStatus:
            jobs.add_metric([status.value], counts.get(status, 0))
        yield jobs
        yield _gauge("fettle_workers", "Workers that have given a sign of life lately.", seen.num_alive)
        if seen.seconds_since_last_sign is not None:
            help_ = "Seconds since any worker has given a sign of life."
            yield _gauge("fettle_worker_last_sign_seconds", help_, seen.seconds_since_last_sign)


class _OfEngines(Collector):
    def __init__(self, look: Callable[[], PoolLoad]) -> None:
        self._look = look

    def describe(self) -> Iterable[Metric]:
        """Nothing: there may be no engine yet."""
        return []

    def collect(self) -> Iterable[Metric]:
        """Answers, and what is in memory for them."""
        load = self._look()
        chats = GaugeMetricFamily("fettle_chats", "Answers of chats that wait and that are written.", labels=["state"])
        chats.add_metric(["waiting"], load.num_waiting)
        chats.add_metric(["running"], load.num_running)
        yield chats
        yield _gauge("fettle_adapters_in_memory", "Adapters in memory.", load.num_adapters)
        yield _gauge("fettle_base_models_in_memory", "Base models in memory.", load.num_bases)


class _OfKeeper(Collector):
    def __init__(self, look: Callable[[], KeeperCounts]) -> None:
        self._look = look

    def describe(self) -> Iterable[Metric]:
        """Nothing: it is asked for when it is read."""
        return []

    def collect(self) -> Iterable[Metric]:
        """Requests that were kept, and those that were not though they should have been."""
        counts = self._look()
        kept = CounterMetricFamily("fettle_traffic", "Answered requests that were to be kept.", labels=["outcome"])
        outcomes = {"kept": counts.num_kept, "dropped": counts.num_dropped, "failed": counts.num_failed}
        for outcome, number in outcomes.items():
            kept.add_metric([outcome], number)
        yield kept


class _OfShadows(Collector):
    def __init__(self, look: Callable[[], Mapping[ShadowOutcome, int]]) -> None:
        self._look = look

    def describe(self) -> Iterable[Metric]:
        """Nothing: it is asked for when it is read."""
        return []

    def collect(self) -> Iterable[Metric]:
        """Requests that a challenger has answered too, and those that it has not though it was drawn."""
        asked = CounterMetricFamily(
            "fettle_shadow", "Requests that a challenger was to answer too.", labels=["outcome"]
        )
        for outcome, number in self._look().items():
            asked.add_metric([outcome.value], number)
        yield asked


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)
