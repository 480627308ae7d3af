"""`pavane dead-letters` from outside, on databases in which records are parked and for which no worker runs."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from infra.addresses import database_variable
from infra.stack import Stack
from streams.inventory.events import StockLine, StockReserved
from streams.kit import envelope
from streams.kit.codec import Codec
from streams.kit.events import Fact, Request, milliseconds
from streams.kit.kafka import partition_of
from streams.kit.lane import Draft, Lane
from streams.kit.language import Language
from streams.kit.log import Record
from streams.kit.migrations import migrate
from streams.kit.postgres import PostgresStore
from streams.kit.registry import ConfluentRegistry
from streams.kit.run import find, services
from streams.kit.store import Move
from tests.conftest import NewDatabase

PARTITIONS = 4
#: Its key belongs in lane 0, where everything is parked.
ORDER = next(key for key in iter(lambda: str(uuid4()), "") if partition_of(key.encode(), PARTITIONS) == 0)
LINES = (StockLine(sku="lamp", quantity=2),)
Pavane = Callable[..., subprocess.CompletedProcess[str]]


class CancelOrder(Request, topic="orders.requests"):
    """What a customer sends."""

    tenant: str
    order_id: str
    asked_by: str

    @property
    def key(self) -> str:
        return self.order_id


async def encoded(stack: Stack) -> Callable[[Fact | Request], bytes]:
    codec = Codec(Language.load(), ConfluentRegistry(stack.addresses.registry_url))
    await codec.prepare("inventory", [StockReserved])
    await codec.prepare("orders.requests", [CancelOrder])
    return codec.encode


async def park(url: str, service: str, *records: tuple[Record, str, str, bool]) -> None:
    """Park (record, reason, message, holds) in lane 0, as the service's worker does."""
    store = PostgresStore(url, 8.0)
    try:
        holding, _ = await store.take_over(0, PARTITIONS)
        draft = Draft(Lane(service, 0, find(service).topics, holding), [], {})
        for record, reason, message, holds in records:
            asked = record.topic.endswith(".requests")
            place = record.topic, record.partition, record.offset
            about = envelope.of_request(*place, record.headers) if asked else envelope.read(record.headers)
            key = (record.key or b"").decode()
            draft.parking.add(record, about, key, reason, message, holds=holds)
        async with store.transaction([draft]) as transaction:
            await transaction.commit([Move(draft, 0)], [])
    finally:
        await store.close()


def fact(sequence: int, said: Fact, encode: Callable[[Fact | Request], bytes]) -> Record:
    cause = envelope.of_request("orders", 0, 0, ())
    headers = envelope.write("inventory", 0, sequence, type(said).__name__, {"orders": 1}, cause)
    now = milliseconds(datetime.now(UTC))
    return Record("inventory", 0, sequence - 1, now, said.key.encode(), encode(said), headers)


@pytest.fixture(scope="module")
async def databases(stack: Stack, new_database: NewDatabase) -> dict[str, str]:
    """Databases of their own: a fact parked at billing with one behind it, a refused and an unreadable request."""
    urls = {name: await new_database() for name in services()}
    await asyncio.gather(*(asyncio.to_thread(migrate, name, url) for name, url in urls.items()))
    encode = await encoded(stack)
    reserved = fact(1, StockReserved(tenant="shop", order_id=ORDER, lines=LINES), encode)
    later = fact(2, StockReserved(tenant="shop", order_id=ORDER, lines=LINES), encode)
    await park(
        urls["billing"], "billing", (reserved, "KeyError", "'lamp'", True), (later, "Behind", "it waits", True)
    )
    cancel = encode(CancelOrder(tenant="shop", order_id=ORDER, asked_by="ada"))
    now = milliseconds(datetime.now(UTC))
    await park(
        urls["orders"],
        "orders",
        (Record("orders.requests", 0, 5, now, ORDER.encode(), cancel, ()), "Refused", "no such order", False),
        (
            Record("orders.requests", 0, 6, now, b"key", b"\x1b[31mgarbage", ()),
            "Undecodable",
            "\x1b[2J not ours",
            False,
        ),
    )
    with psycopg.connect(urls["orders"], autocommit=True) as connection:
        connection.execute("UPDATE parked SET parked_at = now() - interval '3 hours' WHERE reason = 'Undecodable'")
    return urls


@pytest.fixture(scope="module")
async def pavane(stack: Stack, databases: dict[str, str]) -> AsyncIterator[Pavane]:
    """`pavane("list")`: the command on these databases."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PAVANE_")}
    named = {database_variable(name): url for name, url in databases.items()}
    addresses = {"PAVANE_KAFKA": stack.addresses.kafka_bootstrap, "PAVANE_REGISTRY": stack.addresses.registry_url}

    def run(*words: str, **settings: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "pavane.main", "dead-letters", *words],
            env={**kept, **named, **addresses, **settings},
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    yield run


def records(done: subprocess.CompletedProcess[str]) -> dict[str, dict[str, Any]]:
    assert done.returncode == 0, done.stderr
    return {each["id"]: each for each in json.loads(done.stdout)["records"]}


async def rows(url: str) -> list[tuple[Any, ...]]:
    async with await psycopg.AsyncConnection.connect(url) as connection:
        return await (await connection.execute("SELECT xmin, xmax, * FROM parked ORDER BY number")).fetchall()


def test_help_names_every_command(pavane: Pavane) -> None:
    assert {"list", "show", "redrive", "discard"} <= set(pavane("--help").stdout.split())


def test_what_waits_is_one_line_each_with_totals_by_reason(pavane: Pavane) -> None:
    done = pavane("list")

    assert done.returncode == 0, done.stderr
    heading, *lines = done.stdout.splitlines()
    assert heading.split() == ["id", "age", "key", "event", "reason", "behind", "message"]
    [billing] = [line for line in lines if line.startswith("billing/0/1 ")]
    assert billing.split()[2:] == [ORDER, "StockReserved", "KeyError", "1", "'lamp'"]
    assert "3 records parked, 1 waiting behind them" in lines
    assert "        1  billing: KeyError" in lines
    assert any(
        line.startswith("orders/0/2 ") and line.split()[1:5] == ["3h", "key", "?", "Undecodable"] for line in lines
    )
    assert "\x1b" not in done.stdout, "nothing that a stranger wrote moves the terminal"


@pytest.mark.parametrize(
    ("words", "ids"),
    [
        (["--service", "orders"], {"orders/0/1", "orders/0/2"}),
        (["--because", "KeyError"], {"billing/0/1"}),
        (["--fact", "CancelOrder"], {"orders/0/1"}),
        (["--key", ORDER], {"billing/0/1", "orders/0/1"}),
        (["--older-than", "2h"], {"orders/0/2"}),
        (["--newer-than", "2h"], {"billing/0/1", "orders/0/1"}),
        (["--behind", "--service", "billing"], {"billing/0/1", "billing/0/2"}),
        (["--because", "KeyError", "--service", "orders"], set()),
    ],
)
def test_filters_let_pass_what_they_name(pavane: Pavane, words: list[str], ids: set[str]) -> None:
    assert records(pavane("list", "--json", *words)).keys() == ids


def test_json_has_everything_that_a_script_needs(pavane: Pavane) -> None:
    document = json.loads(pavane("list", "--json", "--behind").stdout)

    assert document["totals"] == {"billing": {"KeyError": 1, "Behind": 1}, "orders": {"Refused": 1, "Undecodable": 1}}
    [head] = [each for each in document["records"] if each["id"] == "billing/0/1"]
    parked_at = datetime.fromisoformat(head.pop("parked_at"))
    assert datetime.now(UTC) - parked_at < timedelta(minutes=10)
    assert head == {
        "id": "billing/0/1", "service": "billing", "key": ORDER, "event": "StockReserved", "origin": "inventory/0/0",
        "reason": "KeyError", "message": "'lamp'", "attempts": 1, "retry_at": None, "waits_behind": None, "behind": 1,
    }  # fmt: skip
    assert [each["waits_behind"] for each in document["records"] if each["id"] == "billing/0/2"] == ["billing/0/1"]


def test_one_record_is_shown_with_what_it_says_and_what_to_do(pavane: Pavane) -> None:
    shown = pavane("show", "billing/0/1").stdout

    assert '"sku": "lamp"' in shown
    assert "said as    inventory/0/1, caused by orders/0/0" in shown
    assert 'clock: {"orders":1}' in shown
    assert "stack      none: nothing about it is in the dead-letter topic" in shown
    assert "billing/0/2  StockReserved  inventory/0/1" in shown
    assert "pavane dead-letters discard billing/0/1 --reason" in shown
    assert "'pavane audit' names what that leaves unsettled" in shown
    garbage = pavane("show", "orders/0/2").stdout
    assert "not readable: it is not in Confluent wire format" in garbage
    assert "\x1b" not in garbage


async def test_a_dry_run_says_what_would_be_decided_and_changes_nothing(
    pavane: Pavane, databases: dict[str, str]
) -> None:
    before = [await rows(url) for url in databases.values()]

    failing = pavane("redrive", "--dry-run", "--service", "orders")
    handled = pavane("redrive", "billing/0/1", "--dry-run")

    assert failing.returncode == 1, failing.stderr
    assert f"orders/0/1  CancelOrder about {ORDER}: would fail\n    Refused: " in failing.stdout
    assert "orders/0/2  ? about key: would fail\n    Undecodable: " in failing.stdout
    assert "Nothing was changed. Today: 2 would fail." in failing.stdout
    assert handled.returncode == 0, handled.stderr
    assert f"billing/0/1  StockReserved about {ORDER}: " in handled.stdout
    assert [await rows(url) for url in databases.values()] == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["show", "billing/0/9"], "billing/0/9: no record is parked under this id"),
        (["show", "billing"], "'billing' is no id"),
        (["show", "nonsense/0/1"], "there is no service 'nonsense'; there are billing"),
        (["redrive", "billing/0/2", "--yes"], "billing/0/2 waits behind billing/0/1"),
        (["redrive", "billing/0/1", "--because", "KeyError", "--yes"], "either ids or filters"),
        (["redrive", "billing/0/1"], "nobody is there to agree: say --yes"),
        (["discard", "billing/0/1", "--reason", "old"], "nobody is there to agree: say --yes"),
        (["discard", "billing/0/1", "--reason", " ", "--yes"], "--reason: say why"),
        (["list", "--older-than", "soon"], "'soon' is no age: write a number and s, m, h or d"),
    ],
)
def test_what_cannot_be_asked_is_one_message_and_exit_code_2(pavane: Pavane, words: list[str], said: str) -> None:
    done = pavane(*words)

    assert (done.returncode, "Traceback" in done.stderr) == (2, False), done.stderr
    assert said in done.stderr


def test_a_database_that_does_not_answer_is_told_by_its_variable(pavane: Pavane) -> None:
    done = pavane("list", PAVANE_DATABASE_BILLING="postgresql://nobody@127.0.0.1:1/none")

    assert done.returncode == 2
    assert "The database of billing (PAVANE_DATABASE_BILLING) cannot be asked" in done.stderr


def test_a_registry_that_is_away_leaves_requests_without_names(pavane: Pavane) -> None:
    away = {"PAVANE_REGISTRY": "http://127.0.0.1:1"}
    listed = pavane("list", **away).stdout
    assert " StockReserved " in listed
    assert "requests have no names here now" in listed
    assert pavane("list", "--fact", "CancelOrder", **away).returncode == 2


def test_a_redrive_and_a_discard_that_no_worker_takes_are_told_and_written_down(pavane: Pavane) -> None:
    redriven = pavane("redrive", "orders/0/1", "--yes", "--as", "ada", "--reason", "to see", "--patience", "0.3")
    discarded = pavane(
        "discard", "orders/0/2", "--yes", "--as", "grace", "--reason", "no order of ours", "--patience", "0.3"
    )

    assert (redriven.returncode, discarded.returncode) == (2, 2), redriven.stderr + discarded.stderr
    assert "1 record to redrive, with 0 waiting behind them" in redriven.stdout
    assert "orders does not seem to run" in redriven.stdout
    assert (
        "orders will never act on ? (orders.requests/0/6, about key), and nobody tells its sender." in discarded.stdout
    )
    assert records(pavane("list", "--json", "--service", "orders"))["orders/0/1"]["retry_at"] is None
    assert "Nothing: it was discarded" in pavane("show", "orders/0/2").stdout
    done = json.loads(pavane("list", "--operations", "--json").stdout)["operations"]
    assert [(each["who"], each["what"], each["items"], each["why"]) for each in done] == [
        ("grace", "discard", ["orders/0/2"], "no order of ours"),
        ("ada", "redrive", ["orders/0/1"], "to see"),
    ]
    assert "orders.requests/0/6 about key, parked because of Undecodable" in done[0]["subject"]
    assert done[1]["outcome"].startswith("0 handled, 1 left: nobody took orders/0/1 within 0 s")
    assert pavane("list", "--operations").stdout.splitlines()[1].split()[2:5] == ["orders", "grace", "discard"]
