"""A topic that lost its end: the speaker's lane stops, and `pavane log restore` has the outbox say it again."""

import pytest
from confluent_kafka.admin import AdminClient

from pavane.operators.errors import NotAsked
from pavane.rebuild import restoring
from pavane.rebuild.restoring import Restore
from streams.kit import envelope
from tests.conftest import NewTopics
from tests.kit import reading
from tests.kit.running import PARTITIONS, Counting
from tests.kit.test_halts import heard_and_stopped, made_again
from tests.kit.test_skipping import desk, halted, until_total
from tests.waiting import eventually


@pytest.fixture
def admin(counting: Counting) -> AdminClient:
    return AdminClient({"bootstrap.servers": counting.bootstrap, "log_level": 0})


async def comes_back_empty(counting: Counting, admin: AdminClient, new_topics: NewTopics) -> None:
    """The broker has lost everything that the service has said."""
    await made_again(admin, new_topics, counting.counter.name)


async def test_what_the_outbox_holds_is_said_again_into_a_log_that_came_back_empty(
    counting: Counting, admin: AdminClient, new_topics: NewTopics, capsys: pytest.CaptureFixture[str]
) -> None:
    key = await heard_and_stopped(counting)
    await comes_back_empty(counting, admin, new_topics)
    await counting.start()
    why = await halted(counting)
    assert "the log had acknowledged facts up to 3, but the last one of them in it is 0" in why
    assert f"pavane log restore {counting.counter.name}" in why

    restore = Restore(desk(counting), counting.counter.name)
    assert await restore.carry_out("ada", "look", give_up=False, asks=False, dry_run=True) == 0
    assert "3 facts will be said again: nothing is lost" in capsys.readouterr().out
    assert await counting.rows("SELECT what FROM operations") == []
    assert await restore.carry_out("ada", "it came back empty", give_up=False, asks=False, dry_run=False) == 0

    async def is_said() -> bool:
        return await counting.said() == {key: 3}

    await eventually(is_said, 60.0, "everything is in the log again")
    await counting.ask((key, 10))
    await until_total(counting, key, 13)
    assert await counting.rows("SELECT who, what, why FROM operations") == [
        ("ada", "log restore", "it came back empty")
    ]


async def test_a_running_service_stops_as_soon_as_the_log_gives_it_an_offset_again(
    counting: Counting, admin: AdminClient, new_topics: NewTopics, capsys: pytest.CaptureFixture[str]
) -> None:
    key = await heard_and_stopped(counting)
    await counting.start()
    await counting.ask((key, 1))
    await counting.until_totals({key: 4})
    await comes_back_empty(counting, admin, new_topics)
    await counting.ask((key, 10))
    assert "the log had acknowledged facts up to 4, but the last one of them in it is 0" in await halted(counting)

    restore = Restore(desk(counting), counting.counter.name)
    assert await restore.carry_out("ada", "it was deleted", give_up=False, asks=False, dry_run=False) == 0
    said = capsys.readouterr().out
    assert "has 1 fact from behind the gap (they are deleted from it)" in said
    assert "5 facts will be said again: nothing is lost" in said

    await counting.ask((key, 100))
    await until_total(counting, key, 114)

    async def is_said() -> bool:
        return await counting.said() == {key: 114}

    await eventually(is_said, 60.0, "everything is in the log again, in order")


async def test_nothing_is_changed_when_what_was_promised_is_deleted_while_somebody_thinks(
    counting: Counting, admin: AdminClient, new_topics: NewTopics, monkeypatch: pytest.MonkeyPatch
) -> None:
    await heard_and_stopped(counting)
    await comes_back_empty(counting, admin, new_topics)
    lanes = "SELECT partition, acknowledged, epoch FROM lanes ORDER BY partition"
    before = await counting.rows(lanes)

    async def agrees(question: str) -> bool:
        assert question == "Say them again?"
        await counting.rows("DELETE FROM outbox WHERE number = 1")
        return True

    monkeypatch.setattr(restoring, "agreed", agrees)
    name = counting.counter.name
    restore = Restore(desk(counting), name)
    with pytest.raises(NotAsked, match=f"does not hold fact 1 any more.*pavane log restore {name} .*--dry-run"):
        await restore.carry_out("ada", "it came back empty", give_up=False, asks=True, dry_run=False)
    assert await counting.rows(lanes) == before
    assert await counting.rows("SELECT what FROM operations") == []


async def test_facts_that_nobody_holds_any_more_are_listed_and_have_to_be_given_up(
    counting: Counting, admin: AdminClient, new_topics: NewTopics, capsys: pytest.CaptureFixture[str]
) -> None:
    key = await heard_and_stopped(counting)
    await comes_back_empty(counting, admin, new_topics)
    await counting.rows("DELETE FROM outbox")
    await counting.start()
    await halted(counting)

    restore = Restore(desk(counting), counting.counter.name)
    with pytest.raises(NotAsked, match="--give-up"):
        await restore.carry_out("ada", "why not", give_up=False, asks=False, dry_run=False)
    assert "facts 1 to 3 are gone" in capsys.readouterr().out
    assert await restore.carry_out("ada", "no copy", give_up=True, asks=False, dry_run=False) == 0

    assert await restore.carry_out("ada", "once more", give_up=False, asks=False, dry_run=False) == 0
    assert "The log has everything" in capsys.readouterr().out, "nothing was said since"
    await counting.ask((key, 10))
    await until_total(counting, key, 13)
    [(items,)] = await counting.rows("SELECT items FROM operations WHERE what = 'give up'")
    assert items == [f"{counting.counter.name}/0/3"]

    # What was given up is no gap, and what follows it no stray.
    async def said() -> list[int]:
        [lane, _] = await reading.records(counting.bootstrap, counting.counter.name, PARTITIONS)
        return [envelope.read(record.headers).sequence for record in lane]

    await eventually(said, 30.0, "the next fact is in the log")
    assert await restore.carry_out("ada", "once more", give_up=False, asks=False, dry_run=False) == 0
    assert "The log has everything" in capsys.readouterr().out
    assert await said() == [4]
