"""Preloaded orders, all confirmed, beside their raw twin; and with one in ten failing in all the ways."""

from collections.abc import Callable, Mapping
from typing import Any

from pavane.bench.drain import Drained, drain
from pavane.bench.ground import ground
from pavane.bench.report import Result, Row
from pavane.bench.scenario import Given, percent, rate
from pavane.bench.twin import Twin, twins
from pavane.bench.workload import Shape, Workload

TITLE = "Drain: whole sagas a second, of orders that lie in the log already"
ORDERS, QUICK_ORDERS = 20_000, 2_000
FAILING = 0.10


async def run(given: Given) -> Result:
    count = given.options.size(ORDERS, QUICK_ORDERS)
    plain = Workload("all-confirmed", count, seed=given.options.seed)
    async with ground(given.folder("drain")) as (place, usage):
        with given.progress.doing(f"{count:,} orders, all confirmed") as step:
            drained = await drain(place, usage, plain, step.facts)
        with given.progress.doing("its raw twin, with both clients"):
            raw = await twins(place, usage, drained)
    mixed = Workload("one-in-ten-fails", count, Shape(failing=FAILING), seed=given.options.seed)
    async with ground(given.folder("drain-failing")) as (place, usage):
        with given.progress.doing(f"{count:,} orders, one in ten fails") as step:
            failing = await drain(place, usage, mixed, step.facts)
    return _result(drained, raw, failing)


def _result(drained: Drained, raw: list[Twin], failing: Drained) -> Result:
    fastest = raw[0]
    share = drained.sagas_per_second / fastest.sagas_per_second
    rows = [
        Row("whole sagas a second", [rate(drained.sagas_per_second), rate(failing.sagas_per_second)]),
        Row("raw twin, sagas a second", [rate(fastest.sagas_per_second), ""]),
        Row("share of the raw twin", [percent(share), ""]),
        *(Row(f"  with {twin.client}", [rate(twin.sagas_per_second), ""]) for twin in raw),
        *common_rows(drained, failing),
    ]
    document: Mapping[str, Any] = {
        "all_confirmed": drained.document(),
        "raw_twin": [twin.document() for twin in raw],
        "share_of_raw_twin": round(share, 4),
        "one_in_ten_fails": failing.document(),
    }
    notes = [
        "From the first fact's decision to the last fact seen in the log; every end checked, the audit clean.",
        "Raw twin: the same bytes through the bare clients, nothing decoded or decided (pavane/bench/twin.py).",
    ]
    return Result(TITLE, ["all confirmed", "one in ten fails"], rows, document, notes)


def common_rows(*drains: Drained) -> list[Row]:
    """What is told of every drain, a column each."""
    found = [each.document() for each in drains]
    names = {
        "until the timeline has heard all": "sagas_per_second_until_the_timeline_has_heard_all",
        "facts a saga": "facts_a_saga",
        "record reads a saga": "record_reads_a_saga",
        "CPU milliseconds a saga": "cpu_ms_a_saga",
        "statements a saga": "statements_a_saga",
        "commits a saga": "commits_a_saga",
        "WAL bytes a saga": "wal_bytes_a_saga",
        "log bytes a saga": "log_bytes_a_saga",
    }
    rows = [Row(label, [_figure(each[key]) for each in found]) for label, key in names.items()]
    used = [_by_name(each["cpu_seconds"], sum) for each in found]
    peaks = [_by_name(each["peak_memory_mib"], max) for each in found]
    cpu = [
        Row(
            f"  CPU s, peak MiB: {name}",
            [f"{seconds.get(name, 0):.1f}, {mib.get(name, 0):,}" for seconds, mib in zip(used, peaks, strict=True)],
        )
        for name in sorted({name for each in used for name in each})
        if any(each.get(name, 0) >= 0.1 for each in used)
    ]
    return rows + cpu


def _by_name(figures: Mapping[str, float], together: Callable[[list[float]], float]) -> dict[str, float]:
    """One figure a service, however many processes it has."""
    of_name: dict[str, list[float]] = {}
    for name, figure in figures.items():
        of_name.setdefault(name.partition(".")[0], []).append(figure)
    return {name: together(each) for name, each in of_name.items()}


def _figure(value: float | None) -> str:
    if value is None:
        return "?"
    return f"{value:,.0f}" if value >= 100 else f"{value:,.2f}"
