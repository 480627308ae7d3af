"""What the gateway counts, for `/metrics`. Labels have few values: route templates, methods, statuses, never ids."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, PlatformCollector, ProcessCollector

REGISTRY = CollectorRegistry()
ProcessCollector(registry=REGISTRY)
PlatformCollector(registry=REGISTRY)

_FAST = (0.001, 0.0025, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

ANSWERED = Counter(
    "pavane_gateway_answers",
    "Requests answered, by route template, method and status.",
    ["route", "method", "status"],
    registry=REGISTRY,
)
SECONDS = Histogram(
    "pavane_gateway_answer_seconds",
    "From the request's first byte to the start of the answer.",
    ["route", "method"],
    buckets=_FAST,
    registry=REGISTRY,
)
ACKNOWLEDGED = Histogram(
    "pavane_gateway_acknowledge_seconds",
    "From sending a record to its acknowledgement by the log.",
    ["topic"],
    buckets=_FAST,
    registry=REGISTRY,
)
NOT_ACKNOWLEDGED = Counter(
    "pavane_gateway_not_acknowledged",
    "Records that the log did not take in time; outcome: not-accepted or outcome-unknown.",
    ["topic", "outcome"],
    registry=REGISTRY,
)
KEYS = Counter(
    "pavane_gateway_idempotency_keys",
    "Requests with a key, by outcome: begun, replayed, still-running, idempotency-key-reused, unguarded (no Redis).",
    ["outcome"],
    registry=REGISTRY,
)
LISTENERS = Gauge("pavane_gateway_listeners", "Open streams and requests that wait for a change.", registry=REGISTRY)
OVERRUN = Counter(
    "pavane_gateway_listeners_overrun",
    "Listeners that were too slow and were let go, to go on where they were.",
    registry=REGISTRY,
)
KEY_FETCHES = Counter(
    "pavane_gateway_key_fetches",
    "How often the identity provider was asked for its keys, by outcome: fetched, failed.",
    ["outcome"],
    registry=REGISTRY,
)
LIMITED = Counter(
    "pavane_gateway_limited",
    "Requests that were counted against limits, by kind (reads, writes) and verdict (allowed, refused).",
    ["kind", "verdict"],
    registry=REGISTRY,
)
CUT_OFF = Counter(
    "pavane_gateway_cut_off",
    "Connections that were ended before or beside a request, by why: the problem's name, or reader.",
    ["why"],
    registry=REGISTRY,
)
CACHE = Counter(
    "pavane_gateway_cache",
    "Readings of orders, stock and prices, by kind and outcome. Hits: fresh, stale. Queries: loaded, revalidated, "
    "warmed, none (not there), unwatched (too many at once), away (no Redis).",
    ["kind", "outcome"],
    registry=REGISTRY,
)
