"""The keys of persons in their database: made once, wrapped, found again, closed, destroyed, and soon forgotten."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime

import psycopg
import pytest

from pavane.forget.shown import without_tokens
from streams.kit.keyring import CACHE_SECONDS, MOST_CACHED, Keyring, KeysAway, KeySettings, Lately
from streams.kit.keystore import Connection, KeyStore, NotSwept, Person, make_tables
from streams.kit.masters import Masters
from streams.kit.protection import DataKey

OLD, NEW = "2026:" + "o" * 32, "2027:" + "n" * 32
ADA, BOB = Person("shop", "kd-83-ada"), Person("shop", "kd-84-bob")


@pytest.fixture
async def url(new_database: Callable[[], Awaitable[str]]) -> str:
    url = await new_database()
    await asyncio.gather(*(asyncio.to_thread(make_tables, url) for _ in range(3)))
    return url


@pytest.fixture
async def connection(url: str) -> AsyncIterator[Connection]:
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        yield connection


def settings(url: str, master_keys: str = OLD) -> KeySettings:
    return KeySettings(kafka="127.0.0.1:1", registry="http://127.0.0.1:1", database_keys=url, master_keys=master_keys)


async def test_a_person_has_one_key_whoever_makes_it_first(url: str) -> None:
    async with Keyring.at(settings(url)) as one, Keyring.at(settings(url)) as other:
        assert await one.of([ADA]) == {}
        made = await asyncio.gather(*(keys.made_for([ADA, BOB]) for keys in (one, other) * 5))

        assert len({found[ADA].id for found in made}) == len({found[ADA].secret for found in made}) == 1
        assert (await one.find([made[0][ADA].id]))[made[0][ADA].id] == made[0][ADA]
        assert made[0][ADA] != made[0][BOB]


async def test_whoever_ran_on_while_the_database_was_made_anew_finds_the_same_keys_as_who_began_after(
    url: str, connection: Connection
) -> None:
    async with Keyring.at(settings(url)) as before, Keyring.at(settings(url)) as after:
        await before.made_for([BOB])
        await connection.execute("TRUNCATE data_keys, index_key")
        made = await after.made_for([ADA])

        assert await before.of([ADA]) == await before.made_for([ADA]) == made


async def test_an_index_comes_with_the_first_key_and_is_never_made_beside_keys(
    url: str, connection: Connection
) -> None:
    store = KeyStore(Masters.read(OLD))

    async with Keyring.at(settings(url)) as keys:
        assert await keys.of([ADA]) == {} and await store.kept(connection, ADA) is None
        assert await store.by_master(connection) == {}, "a backup of keys brings its own"
        await keys.made_for([ADA])
        await connection.execute("DELETE FROM index_key")
        for ask in (keys.of, keys.made_for):
            with pytest.raises(KeysAway, match="no row in index_key"):
                await ask([BOB])
    assert await store.by_master(connection) == {"2026": 1}


async def test_neither_the_person_nor_the_key_can_be_read_in_the_database(url: str, connection: Connection) -> None:
    async with Keyring.at(settings(url)) as keys:
        key = (await keys.made_for([ADA]))[ADA]

    [(row,)] = await (await connection.execute("SELECT t::text FROM data_keys t")).fetchall()
    assert ADA.customer not in row and ADA.customer.encode().hex() not in row and key.secret.hex() not in row


async def test_what_was_destroyed_is_told_from_what_was_never_there(url: str, connection: Connection) -> None:
    async with Keyring.at(settings(url)) as keys:
        gone, stays = [(await keys.made_for([ADA, BOB]))[person] for person in (ADA, BOB)]
    store = KeyStore(Masters.read(OLD))

    at = await store.destroy(connection, gone.id)

    assert at is not None and await store.destroy(connection, gone.id) is None
    assert await store.find(connection, [gone.id, stays.id, "never"]) == {gone.id: None, stays.id: stays}
    assert await store.of(connection, [ADA, BOB]) == {BOB: stays}
    async with Keyring.at(settings(url)) as keys:
        assert (await keys.made_for([ADA]))[ADA].id != gone.id


async def test_a_destroyed_row_is_said_to_be_in_the_file_while_somebody_looks_at_how_it_was(
    url: str, connection: Connection
) -> None:
    store = KeyStore(Masters.read(OLD))
    key = (await store.make(connection, [ADA]))[ADA]
    async with await psycopg.AsyncConnection.connect(url, application_name="pg_dump") as dump:
        await dump.set_isolation_level(psycopg.IsolationLevel.REPEATABLE_READ)
        await dump.execute("SELECT 1")
        await store.destroy(connection, key.id)

        with pytest.raises(NotSwept, match=r"as pg_dump of .* \(process \d+\) looks at PAVANE_DATABASE_KEYS"):
            await store.sweep(connection, patience_seconds=0.0)
        waiting = asyncio.create_task(store.sweep(connection))
        await dump.rollback()
        await waiting


async def test_an_operator_is_shown_that_a_text_is_personal_or_forgotten(url: str, connection: Connection) -> None:
    async with Keyring.at(settings(url)) as keys:
        gone, stays = [(await keys.made_for([ADA, BOB]))[person] for person in (ADA, BOB)]
    line = f'"street": "{gone.protect("street", "Main 1")}", "city": "{stays.protect("city", "Berlin")}"'
    await KeyStore(Masters.read(OLD)).destroy(connection, gone.id)

    assert await without_tokens(line, url) == '"street": "(forgotten)", "city": "(personal, protected)"'
    for unknown in ("", "postgresql://x@127.0.0.1:1/keys"):
        assert await without_tokens(line, unknown) == '"street": "{0}", "city": "{0}"'.format("(personal, protected)")


async def test_a_closed_key_says_so_until_it_is_opened_or_its_time_is_over(url: str, connection: Connection) -> None:
    store = KeyStore(Masters.read(OLD))
    key = (await store.make(connection, [ADA]))[ADA]

    async def is_closing() -> bool:
        return (await store.of(connection, [ADA]))[ADA].is_closing

    seen = [await is_closing()]
    for seconds in (60.0, 0.0, 60.0):
        closed = await store.close(connection, key.id, seconds)
        seen.append(await is_closing())
    assert closed is not None
    await store.reopen(connection, key.id, closed)

    assert [*seen, await is_closing()] == [False, True, False, True, False]


async def test_a_key_is_destroyed_and_opened_again_only_by_who_closed_it_last(url: str, connection: Connection) -> None:
    store = KeyStore(Masters.read(OLD))
    key = (await store.make(connection, [ADA]))[ADA]
    mine, others = [await store.close(connection, key.id, 60.0) for _ in range(2)]
    assert mine is not None and others is not None

    await store.reopen(connection, key.id, mine)

    assert (await store.of(connection, [ADA]))[ADA].is_closing
    assert await store.destroy_closed(connection, key.id, mine) is None
    assert await store.destroy_closed(connection, key.id, others) is not None
    assert await store.close(connection, key.id, 60.0) is None


async def test_a_key_that_opened_again_as_its_time_was_over_is_not_destroyed(url: str, connection: Connection) -> None:
    store = KeyStore(Masters.read(OLD))
    key = (await store.make(connection, [ADA]))[ADA]
    closed = await store.close(connection, key.id, 0.0)
    assert closed is not None

    assert await store.destroy_closed(connection, key.id, closed) is None
    assert await store.of(connection, [ADA]) == {ADA: key}


async def closing(store: KeyStore, connection: Connection) -> tuple[DataKey, datetime]:
    """Ada's key, which somebody is about to destroy, and what they know it by."""
    key = (await store.make(connection, [ADA]))[ADA]
    closed = await store.close(connection, key.id, 60.0)
    assert closed is not None
    return key, closed


async def test_a_request_in_plain_text_opens_a_closing_key_again_so_that_it_is_not_destroyed(
    url: str, connection: Connection
) -> None:
    store = KeyStore(Masters.read(OLD))
    key, closed = await closing(store, connection)

    async with Keyring.at(settings(url)) as keys:
        assert (await keys.made_for([ADA]))[ADA].is_closing
        made = await keys.made_for([ADA], plain=True)
        assert (made, made[ADA].is_closing, (await keys.of([ADA]))[ADA].is_closing) == ({ADA: key}, False, False)

    assert await store.destroy_closed(connection, key.id, closed) is None


async def test_a_request_in_plain_text_is_protected_under_a_new_key_once_the_closing_one_is_destroyed(
    url: str, connection: Connection
) -> None:
    store = KeyStore(Masters.read(OLD))
    key, closed = await closing(store, connection)

    async with Keyring.at(settings(url)) as keys:
        await keys.of([ADA])
        await store.destroy_closed(connection, key.id, closed)
        made = await keys.made_for([ADA, BOB], plain=True)

    assert made[ADA].id != key.id
    assert made == await store.of(connection, [ADA, BOB])


async def test_who_asked_in_plain_text_is_noted(url: str, connection: Connection) -> None:
    store = KeyStore(Masters.read(OLD))
    async with Keyring.at(settings(url)) as keys:
        await keys.made_for([ADA, BOB])
        await keys.made_for([BOB], plain=True)

    noted = {person: kept.asked_in_plain for person in (ADA, BOB) if (kept := await store.kept(connection, person))}
    assert noted == {ADA: False, BOB: True}


async def test_after_rewrapping_the_old_master_key_is_needed_no_more(url: str, connection: Connection) -> None:
    async with Keyring.at(settings(url)) as keys:
        before = await keys.made_for([ADA, BOB])
    async with Keyring.at(settings(url, NEW)) as keys:
        with pytest.raises(KeysAway, match="no master key '2026'"):
            await keys.of([ADA])

    store = KeyStore(Masters.read(f"{NEW},{OLD}"))
    rewrapped = [await store.rewrap(connection, most=1) for _ in range(4)]

    assert rewrapped == [1, 1, 1, 0]
    assert await store.by_master(connection) == {"2027": 3}
    async with Keyring.at(settings(url, NEW)) as keys:
        assert await keys.made_for([ADA, BOB]) == before


async def test_a_key_of_a_master_key_that_is_not_there_is_found_and_destroyed_all_the_same(
    url: str, connection: Connection
) -> None:
    async with Keyring.at(settings(url)) as keys:
        back = (await keys.made_for([ADA]))[ADA].id
    store = KeyStore(Masters.read(NEW))

    assert await store.readable(connection, [back, "never"]) == {back}
    assert await store.destroy(connection, back) is not None
    assert await store.readable(connection, [back]) == set()


async def test_a_database_that_is_away_or_has_no_tables_is_told(new_database: Callable[[], Awaitable[str]]) -> None:
    async with Keyring.at(settings("postgresql://x@127.0.0.1:1/keys")) as keys:
        with pytest.raises(KeysAway, match="PAVANE_DATABASE_KEYS"):
            await keys.find(["x"])
    async with Keyring.at(settings(await new_database())) as keys:
        with pytest.raises(KeysAway, match="index_key"):
            await keys.of([ADA])


def test_what_was_learned_is_dropped_in_time_counted_from_the_question() -> None:
    now = 100.0
    lately: Lately[str, int] = Lately(lambda: now)
    asked_at = now
    now += 2
    lately.learn({"a": 1}, asked_at)
    lately.learn({"b": 2}, now)

    now = asked_at + CACHE_SECONDS
    assert lately.known(["a", "b", "c"]) == ({"b": 2}, ["a", "c"])
    now += CACHE_SECONDS
    assert lately.known(["b"]) == ({}, ["b"]) and len(lately) == 0


def test_what_is_remembered_is_bounded() -> None:
    lately: Lately[int, int] = Lately(lambda: 0.0)
    lately.learn({number: number for number in range(MOST_CACHED + 10)}, 0.0)

    assert len(lately) == MOST_CACHED
    assert lately.known([0, MOST_CACHED + 9]) == ({MOST_CACHED + 9: MOST_CACHED + 9}, [0])
