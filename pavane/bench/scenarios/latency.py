"""From accepted to confirmed, at a steady rate of orders over HTTP.

A process of its own places the orders (`generator`: open loop, counted from the intended time), another one hears how
they end (`listener`: an independent consumer). The whole way is from the intended time to the arrival of
`OrderConfirmed` there; "accepted" is the time at which the gateway's 202 came. Steps are the differences between the
timestamps of an order's facts, which are those of their decisions: a step includes the commit and the append before it.
All clocks are this machine's. CPU is counted from when the first order was due until everybody, the timeline too, has
heard all.

A rate that the machine does not keep up with (orders wait in thousands, or are refused) has no latency: it grows as
long as one measures. That is said instead, higher rates are left out, and every accepted order still has to end well.
"""

import asyncio
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from infra.processes import Child
from pavane.bench import generator, log, proof
from pavane.bench.generator import Plan
from pavane.bench.ground import Ground, ground
from pavane.bench.log import Ends, Looker
from pavane.bench.report import Result, Row
from pavane.bench.scenario import Given, milliseconds
from pavane.bench.usage import Usage
from pavane.bench.workload import CONFIRMED, Workload
from streams.kit.lane import REQUESTS

TITLE = "Latency: from accepted to confirmed, at a steady rate over HTTP"
RATES, QUICK_RATES = (50, 200, 500, 1_000), (50, 200)
SECONDS, QUICK_SECONDS = 30.0, 5.0
WARM_UP_ORDERS, WARM_UP_RATE = 500, 100.0
CUSTOMERS = 50
CONNECTIONS = 32
TENANT = "steady"
PATIENCE_SECONDS = 120.0
SETTLED_SECONDS = 300.0
ANSWER_SECONDS = 30.0
STEPS = ("OrderPlaced", "StockReserved", "PaymentAuthorized", "ShipmentBooked", "PaymentCaptured", "OrderConfirmed")
PERCENTILES = (0.5, 0.99, 0.999)
MEASURERS = ("bench", "generator", "listener")


class Steady(NamedTuple):
    """One rate, all orders confirmed. Seconds, by percentile where they are mappings."""

    rate: float
    orders: int
    to_confirmed: Mapping[float, float]
    from_accepted: Mapping[float, float]
    http: Mapping[float, float]
    steps: Mapping[str, Mapping[float, float]]
    cpu_seconds: Mapping[str, float]
    generator_cpu_seconds: float

    @property
    def cpu_ms_a_saga(self) -> float:
        """Of the platform and its servers, without what measures them."""
        used = sum(seconds for name, seconds in self.cpu_seconds.items() if name not in MEASURERS)
        return 1000 * used / self.orders

    def document(self) -> dict[str, Any]:
        return {
            "orders_a_second": self.rate,
            "orders": self.orders,
            "intended_to_confirmed_seconds": _named(self.to_confirmed),
            "accepted_to_confirmed_seconds": _named(self.from_accepted),
            "http_seconds": _named(self.http),
            "steps_seconds": {name: _named(found) for name, found in self.steps.items()},
            "cpu_ms_a_saga": round(self.cpu_ms_a_saga, 3),
            "cpu_seconds": {name: round(used, 2) for name, used in self.cpu_seconds.items()},
            "generator_cpu_seconds": round(self.generator_cpu_seconds, 2),
        }


class NotKeptUp(NamedTuple):
    """One rate, in orders a second, that was too high: how many orders were due and sent, the ids of those that were
    accepted, and how many were refused for now (429, 503) or got no answer."""

    rate: float
    due: int
    sent: int
    accepted: Sequence[str]
    refused: int
    unanswered: int

    def told(self) -> str:
        stopped = f" before {generator.MOST_WAITING:,} waited for an answer at once" if self.sent < self.due else ""
        return (
            f"{self.rate:,.0f}/s was not kept up with: of {self.due:,} orders {self.sent:,} were sent{stopped}; "
            f"{len(self.accepted):,} were accepted, {self.refused:,} refused for now, {self.unanswered:,} not answered."
            " Higher rates were left out. Try again when nothing else runs here, or with more cores."
        )

    def document(self) -> dict[str, Any]:
        counts = {"due": self.due, "sent": self.sent, "refused": self.refused, "unanswered": self.unanswered}
        return {"orders_a_second": self.rate, **counts, "accepted": len(self.accepted)}


async def run(given: Given) -> Result:
    quick = given.options.is_quick
    seconds = QUICK_SECONDS if quick else SECONDS
    found: list[Steady] = []
    too_high: NotKeptUp | None = None
    async with ground(given.folder("latency")) as (place, usage):
        with given.progress.doing("prices, stock and a warm-up"):
            await place.fill(Workload(TENANT, 0))
            warm = await _steady(place, usage, WARM_UP_RATE, WARM_UP_ORDERS, f"warm-up-{time.time_ns()}")
            if isinstance(warm, NotKeptUp):
                raise proof.NotProven(warm.told())
        for rate in QUICK_RATES if quick else RATES:
            with given.progress.doing(f"{rate:,} orders a second for {seconds:.0f} s"):
                measured = await _steady(place, usage, rate, int(rate * seconds), f"r{rate}-{time.time_ns()}")
            if isinstance(measured, NotKeptUp):
                too_high = measured
                break
            found.append(measured)
        with given.progress.doing("every order's end, and the audit"):
            ends = await proof.ends(place.addresses, TENANT)
            if wrong := [order for order, end in ends.items() if end != CONFIRMED]:
                raise proof.NotProven(f"{len(wrong):,} orders are not confirmed, the first is {wrong[0]}")
            _check_count(len(ends), WARM_UP_ORDERS + sum(each.orders for each in found), too_high)
            if too_high is not None and (lost := set(too_high.accepted) - ends.keys()):
                raise proof.NotProven(f"{len(lost):,} accepted orders were not placed, the first is {min(lost)}")
            await proof.check_invariants(place.platform)
    return _result(found, too_high)


def _check_count(placed: int, accepted: int, too_high: NotKeptUp | None) -> None:
    """Every accepted order was placed, and nothing else but what may have been. Raises `NotProven`."""
    least = accepted + (len(too_high.accepted) if too_high is not None else 0)
    most = least + (too_high.unanswered if too_high is not None else 0)
    if not least <= placed <= most:
        raise proof.NotProven(f"{least:,} orders were accepted, but {placed:,} were placed")


async def _steady(place: Ground, usage: Usage, rate: float, orders: int, seed: str) -> Steady | NotKeptUp:
    """One rate. Raises `NotProven` when an order that was accepted is not confirmed in time."""
    looker = Looker(place.addresses.kafka_bootstrap)
    begin = await asyncio.to_thread(looker.ends)
    heard_file = place.stack.data.path / f"heard-{seed}.txt"
    listener = _child(place, "listener", place.addresses.kafka_bootstrap, str(heard_file))
    try:
        await _until_it_listens(listener)
        place.extra["listener"] = listener.pid
        document = await _generate(place, Plan(
            url=place.platform.gateway_url,
            tokens=[place.platform.issuer.token(TENANT, f"customer-{number}") for number in range(CUSTOMERS)],
            rate=rate, orders=orders, goods=len(Workload(TENANT, 0).goods) - 1, connections=CONNECTIONS, seed=seed,
            document=str(place.stack.data.path / f"generated-{seed}.json"),
        ))  # fmt: skip
        await place.platform.settled(SETTLED_SECONDS)
        settled_at = time.time()
    finally:
        place.extra.pop("listener", None)
        await listener.stop(ANSWER_SECONDS)
    if (too_high := not_kept_up(rate, orders, document)) is not None:
        return too_high
    facts = await asyncio.to_thread(_facts, place.addresses.kafka_bootstrap, begin, looker.ends())
    cpu = used(usage, document["noted"], settled_at)
    return _measured(rate, document, _confirmed_at(heard_file), facts, cpu)


def used(usage: Usage, noted: Sequence[tuple[float, float, int, str]], settled_at: float) -> dict[str, float]:
    """CPU seconds by process for all that the orders called for: from when the first was due until all was heard."""
    return usage.cpu_seconds(min(due for due, *_ in noted), settled_at)


def not_kept_up(rate: float, orders: int, document: Mapping[str, Any]) -> NotKeptUp | None:
    """What became of the orders, from the generator's document; None when every one was accepted.

    Raises `NotProven` for a refusal that is no question of speed.
    """
    noted: Sequence[tuple[float, float, int, str]] = document["noted"]
    accepted = [order for *_, status, order in noted if status == 202]
    unanswered = sum(status == 0 for *_, status, _ in noted)
    refused = [(status, text) for *_, status, text in noted if status not in (0, 202)]
    if strange := [each for each in refused if each[0] not in (429, 503)]:
        raise proof.NotProven(f"{len(strange):,} orders were not accepted, the first with {strange[0]}")
    if len(accepted) == orders:
        return None
    return NotKeptUp(rate, orders, orders - document["unsent"], accepted, len(refused), unanswered)


async def _generate(place: Ground, plan: Plan) -> dict[str, Any]:
    file = place.stack.data.path / "plan.json"
    file.write_bytes(msgspec.json.encode(plan))
    process = _child(place, "generator", str(file))
    place.extra["generator"] = process.pid
    try:
        code = await process.wait(PATIENCE_SECONDS + plan.orders / plan.rate)
    finally:
        place.extra.pop("generator", None)
        process.kill()
    if code != 0:
        how = "did not end" if code is None else f"ended with code {code}"
        raise proof.NotProven(f"the load generator {how}: {' '.join(process.log_tail())}")
    document: dict[str, Any] = json.loads(await asyncio.to_thread(Path(plan.document).read_text))
    return document


def _child(place: Ground, name: str, *words: str) -> Child:
    """A process of ours that measures: it ends with this one, and Ctrl-C is this one's."""
    log_file = place.stack.data.path / "logs" / f"{name}.log"
    return Child(name, [sys.executable, "-m", f"pavane.bench.{name}", *words], os.environ, log_file)


async def _until_it_listens(listener: Child) -> None:
    async with asyncio.timeout(ANSWER_SECONDS):
        while "ready" not in listener.log_tail():
            if listener.poll() is not None:
                raise proof.NotProven(f"the listener ended: {' '.join(listener.log_tail())}")
            await asyncio.sleep(0.01)


def _measured(
    rate: float,
    document: Mapping[str, Any],
    confirmed_at: Mapping[str, float],
    facts: Mapping[str, Mapping[str, float]],
    cpu: Mapping[str, float],
) -> Steady:
    noted: Sequence[tuple[float, float, int, str]] = document["noted"]
    if lost := [order for *_, order in noted if order not in confirmed_at]:
        raise proof.NotProven(f"{len(lost):,} orders were not seen confirmed, the first is {lost[0]}")
    steps: dict[str, list[float]] = {}
    for _, answered, _, order in noted:
        before = answered
        for name in STEPS:
            at = facts[order][name]
            steps.setdefault(name, []).append(at - before)
            before = at
        steps.setdefault("heard by a consumer", []).append(confirmed_at[order] - before)
    return Steady(
        rate=rate,
        orders=len(noted),
        to_confirmed=percentiles([confirmed_at[order] - due for due, _, _, order in noted]),
        from_accepted=percentiles([confirmed_at[order] - answered for _, answered, _, order in noted]),
        http=percentiles([answered - due for due, answered, *_ in noted]),
        steps={name: percentiles(found) for name, found in steps.items()},
        cpu_seconds=cpu,
        generator_cpu_seconds=document["cpu_seconds"],
    )


def percentiles(values: Sequence[float]) -> dict[float, float]:
    """The value that each share of them does not exceed."""
    ordered = sorted(values)
    return {share: ordered[max(0, -(-int(share * 1000) * len(ordered) // 1000) - 1)] for share in PERCENTILES}


def _confirmed_at(file: Path) -> dict[str, float]:
    found: dict[str, float] = {}
    for line in file.read_text().splitlines():
        order, name, at, _ = line.split()
        if name == "OrderConfirmed":
            found.setdefault(order, float(at))
    return found


def _facts(bootstrap: str, begin: Ends, end: Ends) -> dict[str, dict[str, float]]:
    """The timestamp of each fact, by order and name."""
    found: dict[str, dict[str, float]] = {}
    only = {at: last for at, last in end.items() if not at[0].endswith(REQUESTS)}
    for message in log.read(bootstrap, begin, only):
        key, name = log.key_and_name(message)
        found.setdefault(key, {}).setdefault(name, message.timestamp()[1] / 1000)
    return found


def _named(found: Mapping[float, float]) -> dict[str, float]:
    return {f"p{100 * share:g}": round(value, 6) for share, value in found.items()}


def _two(found: Mapping[float, float]) -> str:
    return f"{milliseconds(found[0.5])} / {milliseconds(found[0.99])}"


def _result(found: Sequence[Steady], too_high: NotKeptUp | None) -> Result:
    if not found:
        raise proof.NotProven(too_high.told() if too_high is not None else "no rate was measured")
    notes = ["An open loop: counted from when an order was due. Every order confirmed, the audit clean."]
    document: dict[str, Any] = {"rates": [each.document() for each in found]}
    if too_high is not None:
        notes.append(too_high.told())
        document["not_kept_up"] = too_high.document()

    def row(what: str, of: Any, share: float) -> Row:
        return Row(f"{what} p{100 * share:g}", [milliseconds(of(each)[share]) for each in found])

    rows = [row("intended to confirmed", lambda each: each.to_confirmed, share) for share in PERCENTILES]
    rows += [row("accepted to confirmed", lambda each: each.from_accepted, share) for share in PERCENTILES]
    rows += [row("HTTP answer", lambda each: each.http, share) for share in PERCENTILES]
    rows += [
        Row(f"  to {name}, p50 / p99", [_two(each.steps[name]) for each in found])
        for name in (*STEPS, "heard by a consumer")
    ]
    rows.append(Row("CPU milliseconds a saga", [f"{each.cpu_ms_a_saga:.2f}" for each in found]))
    rows.append(Row("  besides: the generator's, s", [f"{each.generator_cpu_seconds:.1f}" for each in found]))
    return Result(
        TITLE,
        [f"{each.rate:,.0f}/s" for each in found],
        rows,
        document,
        notes,
    )
