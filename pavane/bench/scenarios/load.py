"""A shop's traffic at a steady rate: orders, questions about them, lists and cancellations, by locust (`make load`).

Everything runs on this machine, locust too. Times are from sending to the whole answer, as locust sees them, without
the warm-up. Memory is the gateway's own, what it shares counted once (PSS). No order is lost: every one that was
accepted is in orders' own table, has ended, and the audit is clean.
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
            await _check_ends(place, told["placed"])
            invariants = await proof.check_invariants(place.platform)
        return _result(plan, told, memory, watched, invariants)


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
        memory = await watching
    finally:
        watching.cancel()
        place.extra.pop("locust", None)
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0 or not told.exists():
        raise proof.NotProven(f"locust ended with code {process.returncode}: {complaint.decode()[-2_000:]}")
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


async def _check_ends(place: Ground, placed: Sequence[str]) -> None:
    """Every accepted order is there, and has ended. Raises `NotProven`."""
    deadline = time.monotonic() + ENDED_SECONDS
    while True:
        ends = await proof.ends(place.addresses, TENANT)
        missing = [order for order in placed if ends.get(order, PLACED) == PLACED]
        if not missing:
            return
        if time.monotonic() > deadline:
            lost = [order for order in missing if order not in ends]
            raise proof.NotProven(
                f"{len(missing):,} of {len(placed):,} accepted orders have not ended, {len(lost):,} of them are "
                f"nowhere; the first is {missing[0]}"
            )
        await asyncio.sleep(BETWEEN_LOOKS_SECONDS)


def _result(plan: Plan, told: Mapping[str, Any], memory: Sequence[int], watched: Usage, invariants: int) -> Result:
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
        f"{document['requests_a_second']} requests a second; {len(errors):,} errors"
        + "".join(f"\n    {error[:200]}" for error in errors[:MOST_EXAMPLES]),
        f"Gateway: {document['gateway_cpu_ms_a_request']} ms of CPU a request; MiB of memory {', '.join(mib)}.",
        f"All: {1000 * (sum(cpu.values()) - cpu.get('locust', 0)) / max(1, requests):.2f} ms of CPU a request; "
        f"locust itself {1000 * cpu.get('locust', 0) / max(1, requests):.2f}.",
        f"All {len(told['placed']):,} accepted orders have ended; all {invariants} invariants hold.",
    ]
    return Result(TITLE, names, rows, document, notes)
