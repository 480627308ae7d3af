"""What `pavane forget` and `keys destroy-again` say and write down when something stands in their way."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from typing import Any, cast

import psycopg
import pytest
from confluent_kafka import KafkaError, KafkaException
from rich.console import Console

from pavane.forget import forgetting, traces, upkeep
from pavane.forget.forgetting import DONE, Forgetting
from pavane.lanes.settling import Settle
from pavane.operators.errors import DatabaseUnreadable, NotAsked
from pavane.operators.reach import Connection, Reach
from streams.kit.keystore import Kept, KeyStore, Person
from streams.kit.language import Language
from streams.kit.masters import Masters
from streams.kit.protection import DataKey

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
KEY = DataKey.new()


class Rows:
    """A database that gives these rows for a statement with these words, and none for others."""

    def __init__(self, **rows: Sequence[tuple[Any, ...]]) -> None:
        self._rows = rows
        self.asked: list[tuple[str, Any]] = []
        self.fails: dict[str, Exception] = {}

    async def execute(self, query: str | bytes, values: Any = ()) -> "Found":
        text = query.decode() if isinstance(query, bytes) else query
        self.asked.append((text, values))
        for words, error in self.fails.items():
            if words in text:
                raise error
        return Found(next((rows for words, rows in self._rows.items() if words in text), []))


class Found:
    def __init__(self, rows: Sequence[tuple[Any, ...]]) -> None:
        self._rows = rows

    async def fetchall(self) -> Sequence[tuple[Any, ...]]:
        return self._rows

    async def fetchone(self) -> tuple[Any, ...] | None:
        return self._rows[0] if self._rows else None


class Store:
    """One customer's key, or none; and what was done to it, in order. `sweeps`: what happens when it is swept."""

    def __init__(self, key: DataKey | None = KEY, sweeps: Callable[[], None] = lambda: None) -> None:
        self._key = key
        self._sweeps = sweeps
        self.stays_closed = True
        self.gone: set[str] = set()
        self.done: list[str] = []

    async def of(self, _: Connection, persons: Sequence[Person]) -> dict[Person, DataKey]:
        return {} if self._key is None else dict.fromkeys(persons, self._key)

    async def kept(self, *_: object) -> Kept | None:
        return None if self._key is None else Kept(self._key.id, NOON, asked_in_plain=False)

    async def destroyed(self, _: Connection, ids: Sequence[str]) -> dict[str, datetime]:
        return {name: NOON for name in ids if name in self.gone or (name == KEY.id and "destroy" in self.done)}

    async def readable(self, _: Connection, ids: Sequence[str]) -> set[str]:
        return {name for name in ids if self._key is not None and name == self._key.id}

    async def by_master(self, *_: object) -> dict[str, int]:
        return {"2026": 1}

    async def rewrap(self, *_: object) -> int:
        return 0

    async def close(self, *_: object) -> datetime:
        self.done.append("close")
        return NOON

    async def reopen(self, *_: object) -> None:
        self.done.append("reopen")

    async def destroy(self, *_: object) -> datetime:
        self.done.append("destroy")
        return NOON

    async def destroy_closed(self, *_: object) -> datetime | None:
        return await self.destroy() if self.stays_closed else None

    async def sweep(self, *_: object) -> None:
        self.done.append("sweep")
        self._sweeps()


class Ground:
    """Databases that hold nothing but what is given, and a customer to be forgotten."""

    def __init__(self, store: Store, parked: int = 0) -> None:
        self.store = store
        self.orders = Rows(INSERT=[(7,)], parked=[(parked,)])
        self._others = Rows(count=[(0,)])
        self._console = Console(record=True, width=200, file=StringIO())

    @asynccontextmanager
    async def database(self, service: str, *, reading: bool = False) -> AsyncIterator[Rows]:
        yield self.orders if service == "orders" else self._others

    async def forget(self, *, force: bool = False) -> int:
        wanted = Forgetting(cast("Reach", self), cast("KeyStore", self.store), "shop", "kd-83")
        wanted._console = self._console
        return await wanted.carry_out("dpo", "asked", asks=False, dry_run=False, force=force)

    @property
    def kafka(self) -> str:
        return "127.0.0.1:1"

    @property
    def databases(self) -> dict[str, str]:
        return {}

    @property
    def said(self) -> str:
        return self._console.export_text(clear=False)

    @property
    def outcomes(self) -> list[str]:
        return [values[0] for query, values in self.orders.asked if query.startswith("UPDATE operations")]


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forgetting, "CACHE_SECONDS", 0.0)
    monkeypatch.setattr(forgetting, "UNDER_WAY_SECONDS", 0.0)


def raises(error: BaseException) -> Callable[..., Any]:
    def raising(*_: object) -> None:
        raise error

    return raising


async def test_the_receipt_is_written_before_anything_that_may_be_broken_off() -> None:
    ground = Ground(Store(sweeps=raises(KeyboardInterrupt("at its last wait"))))

    with pytest.raises(KeyboardInterrupt):
        await ground.forget(force=True)

    assert ground.store.done == ["close", "destroy", "sweep"]
    [outcome] = ground.outcomes
    assert outcome.startswith(f"destroyed key {KEY.id} at 2026-01-01 12:00:00")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (KafkaException(KafkaError(KafkaError._TRANSPORT)), "Kafka does not answer"),
        (psycopg.OperationalError("connection refused"), "a service's database does not answer: connection refused"),
        (TimeoutError("after 30 seconds: shipping"), "after 30 seconds: shipping"),
    ],
)
async def test_a_key_is_opened_again_when_nobody_can_say_whether_all_is_heard(
    error: Exception, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pavane.settled.wait_until_heard", raises(error))
    ground = Ground(Store())

    with pytest.raises(NotAsked, match=told):
        await ground.forget()

    assert ground.store.done == ["close", "reopen"]
    assert ground.outcomes == ["not forgotten: NotAsked"]


async def test_a_key_that_did_not_stay_closed_is_not_destroyed() -> None:
    ground = Ground(Store())
    ground.store.stays_closed = False

    with pytest.raises(forgetting.OpenedAgain, match="This one forgot nothing"):
        await ground.forget(force=True)

    assert ground.store.done == ["close"]
    assert ground.outcomes == ["not forgotten: OpenedAgain"]


async def test_a_forgetting_that_is_called_off_while_it_waits_opens_the_key_and_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pavane.settled.wait_until_heard", raises(asyncio.CancelledError()))
    ground = Ground(Store())

    with pytest.raises(asyncio.CancelledError):
        await ground.forget()

    assert ground.store.done == ["close", "reopen"]
    assert ground.outcomes == ["not forgotten: CancelledError"]


async def test_who_could_not_write_the_receipt_is_told_what_it_says_and_what_writes_it() -> None:
    away = DatabaseUnreadable("orders", "PAVANE_DATABASE_ORDERS", psycopg.OperationalError("gone"))
    ground = Ground(Store())
    ground.orders.fails["UPDATE operations"] = away

    with pytest.raises(forgetting.ReceiptNotWritten, match=rf"destroyed key {KEY.id} at .* 'pavane keys destroy-"):
        await ground.forget(force=True)


async def test_without_a_key_nothing_is_said_of_what_came_in_plain_text() -> None:
    ground = Ground(Store(key=None), parked=2)

    assert await ground.forget() == DONE
    assert "There is no key of this customer" in ground.said
    assert "nothing that Pavane keeps of them can be read" not in ground.said
    assert "in plain text cannot be ruled out" in ground.said
    assert "2 parked records may hold the customer's number in plain text" in ground.said


async def test_parked_records_are_found_that_belong_to_no_order_yet() -> None:
    ground = Ground(Store(), parked=2)

    found = await traces.traces_of(cast("Reach", ground), Person("shop", "kd-83"), KEY)

    assert (found.orders, found.parked, found.plain) == ({}, 2, 2)
    looked_for = [value for query, values in ground.orders.asked if "parked" in query for value in values]
    assert KEY.protect("customer", "kd-83").encode() in looked_for
    assert b"\x0akd-83" in looked_for


def test_a_text_is_looked_for_as_it_stands_in_a_record() -> None:
    assert traces._as_avro("ü" * 40) == b"\xa0\x01" + "ü".encode() * 40


async def test_who_rewraps_is_told_to_keep_the_old_master_key_for_the_backups(
    capsys: pytest.CaptureFixture[str],
) -> None:
    masters, nobody = Masters.read("2027:" + "n" * 32), cast("Connection", None)

    assert await upkeep.rewrap(cast("KeyStore", Store()), masters, nobody, dry_run=False) == upkeep.DONE
    assert "Keep it elsewhere, until no backup" in capsys.readouterr().out


async def test_no_receipt_at_all_is_no_success_while_there_are_keys() -> None:
    keys = cast("Connection", Rows(data_keys=[(3,)]))
    orders, store = cast("Connection", Rows()), cast("KeyStore", Store())

    with pytest.raises(upkeep.NoReceipts, match=r"3 keys can be read.*rebuild orders --from-backup URL --restart"):
        await upkeep.destroy_again(store, keys, orders, dry_run=False)


async def test_what_a_receipt_names_is_destroyed_again_and_without_any_key_there_is_nothing_to_do() -> None:
    keys, store = cast("Connection", Rows(data_keys=[(1,)])), Store()
    orders = cast("Connection", Rows(EXISTS=[(False,)], LIKE=[(1, KEY.id)]))

    assert await upkeep.destroy_again(cast("KeyStore", store), keys, orders, dry_run=False) == upkeep.DONE
    assert store.done == ["destroy", "sweep"]
    nothing = cast("Connection", Rows(EXISTS=[(False,)])), cast("Connection", Rows(data_keys=[(0,)]))
    assert await upkeep.destroy_again(cast("KeyStore", Store()), nothing[1], nothing[0], dry_run=False) == upkeep.DONE


UNDER_WAY: dict[str, Sequence[tuple[Any, ...]]] = {"outcome = %s ORDER": [(7, KEY.id)], "EXISTS": [(False,)]}


async def test_a_forget_that_was_cut_off_after_the_key_was_destroyed_gets_its_receipt() -> None:
    keys, store, orders = cast("Connection", Rows(data_keys=[(40,)])), Store(key=None), Rows(**UNDER_WAY)
    store.gone = {KEY.id}

    done = await upkeep.destroy_again(cast("KeyStore", store), keys, cast("Connection", orders), dry_run=False)

    assert (done, store.done) == (upkeep.DONE, ["sweep"])
    [(outcome, number, before)] = [values for query, values in orders.asked if query.startswith("UPDATE operations")]
    assert outcome.startswith(f"destroyed key {KEY.id} at 2026-01-01 12:00:00+0000; cut off")
    assert (number, before) == (7, "under way")


async def test_of_a_forget_that_was_cut_off_the_key_is_named_and_destroyed_only_when_that_is_said() -> None:
    keys, store, orders = cast("Connection", Rows(data_keys=[(40,)])), Store(), Rows(**UNDER_WAY)
    asked = cast("KeyStore", store), keys, cast("Connection", orders)

    with pytest.raises(upkeep.CutOff, match=rf"{KEY.id} \(operation 7\).*--cut-off"):
        await upkeep.destroy_again(*asked, dry_run=False)
    assert store.done == ["sweep"]

    assert await upkeep.destroy_again(*asked, dry_run=False, cut_off=True) == upkeep.DONE
    assert store.done == ["sweep", "destroy", "sweep"]
    assert len([query for query, _ in orders.asked if query.startswith("UPDATE operations")]) == 1


async def test_receipts_that_are_all_of_after_a_loss_are_no_success() -> None:
    keys, store = cast("Connection", Rows(data_keys=[(40,)])), Store()
    orders = cast("Connection", Rows(EXISTS=[(True,)], LIKE=[(1, KEY.id)]))

    with pytest.raises(upkeep.ReceiptsLost, match=r"all receipts are of after that.*--from-backup URL --restart"):
        await upkeep.destroy_again(cast("KeyStore", store), keys, orders, dry_run=False)
    assert store.done == ["destroy", "sweep"], "what the receipts name is destroyed all the same"


def test_what_went_astray_is_kept_where_nobody_else_can_read_it(tmp_path: Path) -> None:
    keep = tmp_path / "astray.jsonl"
    reach = Reach({}, "", cast("Any", None), Language.load())

    Settle(reach, None, keep)._file().close()

    assert keep.stat().st_mode & 0o777 == 0o600
