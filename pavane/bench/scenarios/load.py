"""A shop's traffic at a steady rate: orders, questions about them, lists and cancellations, by locust (`make load`).

Everything runs on this machine, locust too. Times are from when a request was due to the whole answer, so a slow answer
makes those late that it held up (`shoppers`); without the warm-up. Memory is the gateway's own, what it shares counted
once (PSS). No order is lost: every one that was accepted is in orders' own table, has ended, and the audit is clean.

The run ends with a verdict, goal by goal, whatever was missed. A short run (`--quick`) is held to what is right and
wrong alone: it says nothing about time and memory.
"""

import asyncio
import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from infra.errors import SettingWrong
from pavane.bench import proof, usage
from pavane.bench.goals import Goal, at_least, at_most, flat, none_of
from pavane.bench.ground import Ground, ground
from pavane.bench.report import Result, Row
from pavane.bench.scenario import Given, milliseconds
from pavane.bench.scenarios.latency import percentiles
from pavane.bench.usage import Usage
from pavane.bench.workload import PLACED, Workload
from pavane.instance import GATEWAY

TITLE = "Load: place, follow, list and cancel, at a steady rate over HTTP"
LOCUST = Path(".venv-load/bin/locust")
SHOPPERS = Path("pavane/bench/shoppers.py")
TENANT = "visited"
RATE, QUICK_RATE = 500, 100
SECONDS, QUICK_SECONDS = 300, 15
WARM_UP_SECONDS = 10
REQUESTS_A_SECOND_OF_A_USER = 5
KNOWN_CUSTOMERS = 2_000
#: In CDNOW's record 23,570 customers placed 69,659 orders.
SHARE_OF_NEW = 0.34
LOOKS_AT_MEMORY = 10
ENDED_SECONDS = 120.0
BETWEEN_LOOKS_SECONDS = 0.5
MOST_EXAMPLES = 3
MOST_POST_SECONDS = 0.025
LEAST_SHARE_OF_RATE = 0.98
MOST_GROWTH = 0.05


class Plan(NamedTuple):
    """What locust is asked for."""

    rate: int
    seconds: int
    seed: int

    @property
    def users(self) -> int:
        return self.rate // REQUESTS_A_SECOND_OF_A_USER

    @property
    def visits(self) -> int:
        """How many customers come at most, one request in twenty."""
        return self.rate * (self.seconds + WARM_UP_SECONDS) // 20 + self.users


async def run(given: Given) -> Result:
    if not await asyncio.to_thread(LOCUST.exists):
        raise SettingWrong(f"{LOCUST} is not here: 'make load' installs it, with what stands in load.lock")
    quick = given.options.is_quick
    plan = Plan(QUICK_RATE if quick else RATE, QUICK_SECONDS if quick else SECONDS, given.options.seed)
    async with ground(given.folder("load")) as (place, watched):
        with given.progress.doing("prices and stock"):
            await place.fill(Workload(TENANT, 0))
        with given.progress.doing(f"{plan.rate:,} requests a second for {plan.seconds} s, by {plan.users} customers"):
            told, memory = await _driven(place, plan)
        with given.progress.doing("every order's end, and the audit"):
            unended = await _unended(place, told["placed"])
            broken = await _broken(place)
        goals = judged(plan, told, memory, unended, broken, quick)
        place.is_kept = not all(goal.is_met or goal.is_figure for goal in goals)
        return _result(plan, told, memory, watched, goals)


async def _driven(place: Ground, plan: Plan) -> tuple[dict[str, Any], list[int]]:
    """What locust tells, and the gateway's memory from the end of the warm-up to the end. Raises `NotProven`."""
    folder = place.stack.data.path
    told = folder / "told.json"
    (folder / "plan.json").write_text(json.dumps(_written(place, plan, told)))
    process = await asyncio.create_subprocess_exec(
        *(str(LOCUST), "-f", str(SHOPPERS), "--headless", "--only-summary", "--skip-log-setup", "--stop-timeout", "30"),
        *("--users", str(plan.users), "--spawn-rate", str(plan.users)),
        *("--run-time", f"{plan.seconds + WARM_UP_SECONDS}s", "--exit-code-on-error", "0"),
        env={**os.environ, "PLAN": str(folder / "plan.json")},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    place.extra["locust"] = process.pid
    watching = asyncio.create_task(_memory(place.platform.children[GATEWAY][-1].pid, plan.seconds))
    try:
        _, complaint = await process.communicate()
        if process.returncode != 0 or not told.exists():
            raise proof.NotProven(f"locust ended with code {process.returncode}: {complaint.decode()[-2_000:]}")
        memory = await watching
    finally:
        watching.cancel()
        place.extra.pop("locust", None)
        if process.returncode is None:
            process.kill()
            await process.wait()
    document: dict[str, Any] = json.loads(told.read_text())
    return document, memory


def _written(place: Ground, plan: Plan, told: Path) -> dict[str, Any]:
    token = place.platform.issuer.token
    new = int(plan.visits * SHARE_OF_NEW) + 1
    return {
        "url": place.platform.gateway_url,
        "rate": plan.rate,
        "users": plan.users,
        "seed": plan.seed,
        "goods": len(Workload(TENANT, 0).goods) - 1,
        "warm_up_seconds": WARM_UP_SECONDS,
        "share_of_new": SHARE_OF_NEW,
        "known": [token(TENANT, f"known-{number}") for number in range(min(KNOWN_CUSTOMERS, plan.visits))],
        "new": [token(TENANT, f"new-{number}") for number in range(new)],
        "told": str(told),
    }


async def _memory(pid: int, seconds: int) -> list[int]:
    await asyncio.sleep(WARM_UP_SECONDS)
    found = [usage.memory(pid)]
    for _ in range(LOOKS_AT_MEMORY):
        await asyncio.sleep(seconds / LOOKS_AT_MEMORY)
        found.append(usage.memory(pid))
    return found


class Unended(NamedTuple):
    """Accepted orders that have not ended: those that are nowhere, and those that are under way."""

    lost: Sequence[str]
    under_way: Sequence[str]

    @property
    def orders(self) -> int:
        return len(self.lost) + len(self.under_way)

    def examples(self) -> list[str]:
        each = (("nowhere", self.lost), ("under way", self.under_way))
        return [f"{len(orders):,} are {where}; the first is {orders[0]}" for where, orders in each if orders]


async def _unended(place: Ground, placed: Sequence[str]) -> Unended:
    """Those that are left once all others have ended, or after `ENDED_SECONDS`."""
    deadline = time.monotonic() + ENDED_SECONDS
    while True:
        ends = await proof.ends(place.addresses, TENANT)
        missing = [order for order in placed if ends.get(order, PLACED) == PLACED]
        if not missing or time.monotonic() > deadline:
            lost = [order for order in missing if order not in ends]
            return Unended(lost, [order for order in missing if order in ends])
        await asyncio.sleep(BETWEEN_LOOKS_SECONDS)


async def _broken(place: Ground) -> str:
    """What the audit complains of; "": nothing."""
    try:
        await proof.check_invariants(place.platform)
    except (proof.NotProven, TimeoutError) as error:
        return str(error)
    return ""


def judged(
    plan: Plan, told: Mapping[str, Any], memory: Sequence[int], unended: Unended, broken: str, quick: bool
) -> list[Goal]:
    """The run, held against each goal."""
    seconds: Mapping[str, Sequence[float]] = told["seconds"]
    requests = sum(map(len, seconds.values()))
    errors: Sequence[str] = told["errors"]
    accepted = f"{len(told['placed']):,} accepted"
    goals = [
        none_of("errors", len(errors), f"{requests:,} requests", [each[:200] for each in errors[:MOST_EXAMPLES]]),
        none_of("orders that have not ended", unended.orders, accepted, unended.examples()),
        Goal("the audit", "clean", "not clean" if broken else "clean", broken),
    ]
    if quick:
        return goals
    return [
        *(
            at_most(f"p99 of {name}", percentiles(seconds[name])[0.99], MOST_POST_SECONDS, milliseconds)
            for name in sorted(seconds)
            if name.startswith("POST")
        ),
        at_least("requests a second", requests / plan.seconds, LEAST_SHARE_OF_RATE * plan.rate, "{:,.1f}".format),
        flat("the gateway's memory", memory, MOST_GROWTH),
        *goals,
    ]


def _result(
    plan: Plan, told: Mapping[str, Any], memory: Sequence[int], watched: Usage, goals: Sequence[Goal]
) -> Result:
    seconds: Mapping[str, Sequence[float]] = told["seconds"]
    requests = sum(map(len, seconds.values()))
    cpu = watched.cpu_seconds(told["begin"], told["end"])
    errors: Sequence[str] = told["errors"]
    names = sorted(seconds, key=lambda name: -len(seconds[name]))
    rows = [Row("requests", [f"{len(seconds[name]):,}" for name in names])]
    rows += [
        Row(f"answer p{100 * share:g}", [milliseconds(percentiles(seconds[name])[share]) for name in names])
        for share in (0.5, 0.99, 0.999)
    ]
    document = {
        "requests_a_second": round(requests / plan.seconds, 1),
        "errors": len(errors),
        "accepted": len(told["placed"]),
        "cancellations": told["cancelled"],
        "seconds": {name: percentiles(found) for name, found in seconds.items()},
        "gateway_cpu_ms_a_request": round(1000 * cpu.get(GATEWAY, 0.0) / max(1, requests), 3),
        "cpu_seconds": {name: round(used, 2) for name, used in cpu.items()},
        "gateway_memory_bytes": list(memory),
    }
    mib = [f"{bytes_ / 2**20:.0f}" for bytes_ in memory]
    notes = [
        f"{document['requests_a_second']} requests a second; {len(told['placed']):,} orders accepted.",
        f"Gateway: {document['gateway_cpu_ms_a_request']} ms of CPU a request; MiB of memory {', '.join(mib)}.",
        f"All: {1000 * (sum(cpu.values()) - cpu.get('locust', 0)) / max(1, requests):.2f} ms of CPU a request; "
        f"locust itself {1000 * cpu.get('locust', 0) / max(1, requests):.2f}.",
    ]
    return Result(TITLE, names, rows, document, notes, goals)
