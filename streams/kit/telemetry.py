"""What a worker tells about itself: Prometheus metrics with the label `service` (or `dependency`: of what it calls);
times in seconds, sizes in counts."""

import contextlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from prometheus_client import Counter, Gauge, Histogram

_BATCH = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
_S = ("service",)

batch_records = Histogram("pavane_batch_records", "Records heard in one transaction", _S, buckets=_BATCH)
step_seconds = Histogram("pavane_step_seconds", "Seconds of each step of a batch", (*_S, "step"), buckets=_SECONDS)
heard = Counter("pavane_records_heard", "Records heard, each once", _S)
known = Counter("pavane_records_known", "Records passed over because they were heard before", _S)
said = Counter("pavane_facts_said", "Facts said, by name", (*_S, "fact"))
dead_letters = Counter("pavane_dead_letters", "Records put aside, by reason", (*_S, "reason"))
batches_again = Counter("pavane_batches_again", "Batches not committed and done again, by reason", (*_S, "reason"))
parked_records = Counter("pavane_records_parked", "Records parked, to be handled later", _S)
released_records = Counter("pavane_records_released", "Parked records handled at last", _S)
effects = Counter("pavane_effects_asked", "Effects asked of the outside world, by name", (*_S, "effect"))
lag = Gauge("pavane_lag_records", "Records in the log that were not heard yet", (*_S, "topic", "partition"))
held_back = Gauge("pavane_held_back_records", "Records read whose causes are still to come, or that wait for room", _S)
unacknowledged = Gauge("pavane_unacknowledged_facts", "Facts said that the log has not acknowledged", _S)
lanes_held = Gauge("pavane_lanes_held", "Partitions that this instance owns", _S)
lanes_halted = Gauge("pavane_lanes_halted", "Partitions that wait for somebody to decide", _S)
guarded = Counter("pavane_effects_guarded", "Effects by how they were guarded: kept, asked, waited, ...", (*_S, "how"))

_D = ("dependency",)

breaker_state = Gauge("pavane_breaker_state", "Circuit breaker: 0 closed, 1 half-open, 2 open", _D)
dependency_calls = Counter("pavane_dependency_calls", "Calls of a dependency, by outcome", (*_D, "outcome"))
dependency_seconds = Histogram(
    "pavane_dependency_seconds", "Seconds of a call, with waiting and all attempts", _D, buckets=_SECONDS
)


class Telemetry:
    """The metrics of one service in this process."""

    def __init__(self, service: str) -> None:
        self.service = service
        self.batch_records = batch_records.labels(service)
        self.heard = heard.labels(service)
        self.known = known.labels(service)
        self.held_back = held_back.labels(service)
        self.unacknowledged = unacknowledged.labels(service)
        self.lanes_held = lanes_held.labels(service)
        self.lanes_halted = lanes_halted.labels(service)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Measure one step of a batch: read, load, fold, ask, commit."""
        begun = time.perf_counter()
        try:
            yield
        finally:
            step_seconds.labels(self.service, name).observe(time.perf_counter() - begun)

    def fact_said(self, name: str, count: int = 1) -> None:
        said.labels(self.service, name).inc(count)

    def put_aside(self, reason: str) -> None:
        dead_letters.labels(self.service, reason).inc()

    def parked(self, added: int, released: int) -> None:
        parked_records.labels(self.service).inc(added)
        released_records.labels(self.service).inc(released)

    def again(self, reason: str) -> None:
        batches_again.labels(self.service, reason).inc()

    def asked(self, effect: str, count: int = 1) -> None:
        effects.labels(self.service, effect).inc(count)

    def effects_guarded(self, how: str, count: int) -> None:
        if count:
            guarded.labels(self.service, how).inc(count)

    def lag(self, topic: str, partition: int, records: int) -> None:
        lag.labels(self.service, topic, partition).set(records)

    def no_lag(self, topic: str, partition: int) -> None:
        """The lane is somebody else's now, who tells."""
        with contextlib.suppress(KeyError):
            lag.remove(self.service, topic, str(partition))


class DependencyTelemetry:
    """The metrics of one dependency in this process. `breaker` is asked for its state whenever somebody looks."""

    def __init__(self, name: str, breaker: Callable[[], float]) -> None:
        self.name = name
        breaker_state.labels(name).set_function(breaker)

    def called(self, outcome: str, seconds: float) -> None:
        dependency_calls.labels(self.name, outcome).inc()
        dependency_seconds.labels(self.name).observe(seconds)
