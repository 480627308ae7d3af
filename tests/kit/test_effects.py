"""The life of an effect's record in a real Redis: claimed, kept, held, lost, taken over, undone."""

import asyncio
import random
import signal
import sys
import time
from collections.abc import AsyncIterator
from itertools import pairwise

import msgspec
import pytest

from streams.kit import records as kit_records
from streams.kit.effects import Guarded, Outcomes
from streams.kit.errors import WrongDeclaration
from streams.kit.events import Answer, Effect, Unanswered
from streams.kit.records import Records
from streams.kit.service import Service
from tests.faulty_valkey import FaultyValkey, faulty_valkey
from tests.kit.bells import PATIENT, Bells, Cracked, Pauses, Ring, Rung, Silence, Silenced, Tower, owner, ringer
from tests.kit.planting import Bug, planted
from tests.waiting import eventually


@pytest.fixture(scope="module")
async def valkey(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[FaultyValkey]:
    async with faulty_valkey(tmp_path_factory.mktemp("valkey")) as valkey:
        yield valkey


@pytest.fixture
async def redis(valkey: FaultyValkey) -> str:
    await valkey.flushed()
    return valkey.url


@pytest.fixture
async def records(redis: str) -> AsyncIterator[Records]:
    async with Records.at(redis, "ringer", 3600.0, 5.0) as records:
        yield records


def record_of(effect: Effect) -> str:
    return f"pavane:effects:{{ringer}}:{effect.key}"


def some_bells(count: int) -> list[Ring]:
    return [Ring(bell=f"b{number}") for number in range(count)]


BELL = Ring(bell="great")

# -- once ------------------------------------------------------------------------------------------------------------


async def test_an_outcome_is_given_again_and_nobody_is_asked(redis: str) -> None:
    bells = Bells()
    async with owner(redis, bells) as first, owner(redis, bells) as second:
        assert await first.ask([BELL]) == [Rung(number=1)]
        assert await second.ask([BELL]) == [Rung(number=1)]
    assert bells.asked == {BELL: 1}


async def test_answers_come_in_the_order_of_the_effects_and_equal_ones_are_asked_once(redis: str) -> None:
    bells = Bells()
    asked = some_bells(5)
    async with owner(redis, bells) as guarded:
        await guarded.ask([asked[3], asked[1]])
        answers = await guarded.ask([*asked, *reversed(asked)])
    assert answers == [*answers[:5], *reversed(answers[:5])]
    assert {answer.number for answer in answers if isinstance(answer, Rung)} == {1, 2, 3, 4, 5}
    assert set(bells.asked.values()) == {1}


async def test_owners_that_race_for_500_effects_ask_for_each_once(redis: str) -> None:
    bells = Bells(lambda: asyncio.sleep(0))
    effects = some_bells(500)
    shuffled = random.Random(7)
    pauses = Pauses()
    async with (
        owner(redis, bells, pause=pauses, lease_seconds=60.0, redis_policy=PATIENT) as first,
        owner(redis, bells, pause=pauses, lease_seconds=60.0, redis_policy=PATIENT) as second,
        owner(redis, bells, pause=pauses, lease_seconds=60.0, redis_policy=PATIENT) as third,
    ):
        rounds = [effects, effects[:300], effects[200:], shuffled.sample(effects, 400)]
        owners = [first, second, third]
        asking = [(each, some) for some in rounds for each in owners]
        shuffled.shuffle(asking)
        answered = await asyncio.gather(*(each.ask(some) for each, some in asking))
    assert pauses.begun.is_set(), "they did race"
    assert bells.asked == dict.fromkeys(effects, 1)
    for (_, some), answers in zip(asking, answered, strict=True):
        assert answers == [Rung(number=bells.numbers[effect.bell]) for effect in some]


async def test_a_round_of_500_takes_two_commands_and_a_repeated_one_takes_one(redis: str, valkey: FaultyValkey) -> None:
    effects = some_bells(500)
    async with owner(redis, Bells()) as guarded:
        await guarded.ask(some_bells(1))
        await guarded.ask([BELL])
        before = await valkey.commands()
        await guarded.ask(effects[1:])
        assert await valkey.commands() - before == 2
        await guarded.ask(effects)
        assert await valkey.commands() - before == 3


async def test_a_round_of_any_size_is_guarded(redis: str) -> None:
    bells = Bells()
    effects = some_bells(1201)
    async with owner(redis, bells) as guarded:
        assert await guarded.ask(effects) == await guarded.ask(effects)
    assert bells.asked == dict.fromkeys(effects, 1)


async def test_outcomes_are_kept_as_long_as_wanted(redis: str, valkey: FaultyValkey) -> None:
    async with owner(redis, Bells()) as guarded:
        await guarded.ask([BELL])
    assert 3590 < await valkey.redis.ttl(record_of(BELL)) <= 3600


# -- other owners ----------------------------------------------------------------------------------------------------


async def test_who_comes_second_waits_for_the_first_but_not_with_the_rest(redis: str) -> None:
    go = asyncio.Event()
    slow, quick, pauses = Bells(go.wait), Bells(), Pauses()
    other = Ring(bell="small")
    async with owner(redis, slow) as first, owner(redis, quick, pause=pauses) as second:
        one = asyncio.create_task(first.ask([BELL]))
        await eventually(lambda: slow.rounds)
        two = asyncio.create_task(second.ask([BELL, other]))
        await pauses.begun.wait()

        assert quick.asked == {other: 1}
        async with owner(redis, Bells()) as third:
            assert await third.ask([other]) == [Rung(number=1)], "the rest is kept, not only answered"
        go.set()
        assert await one == [Rung(number=1)]
        assert (await two)[0] == Rung(number=1)
    assert slow.asked == {BELL: 1}
    assert BELL not in quick.asked


async def test_an_owner_that_lives_keeps_its_lease_while_it_asks(redis: str, valkey: FaultyValkey) -> None:
    go = asyncio.Event()
    slow = Bells(go.wait)
    left = [10_000]
    async with owner(redis, slow, lease_seconds=0.6) as guarded:
        asking = asyncio.create_task(guarded.ask([BELL]))
        await eventually(lambda: slow.rounds)

        async def renewed() -> bool:
            left.append(await valkey.redis.pttl(record_of(BELL)))
            return sum(later > earlier for earlier, later in pairwise(left)) >= 3

        await eventually(renewed)
        assert min(left) > 0, "the lease never ended"
        go.set()
        assert await asking == [Rung(number=1)]


async def test_who_waited_longer_than_a_lease_is_told_to_come_again(redis: str) -> None:
    go = asyncio.Event()
    slow, quick = Bells(go.wait), Bells()
    async with owner(redis, slow, lease_seconds=0.5) as first, owner(redis, quick, lease_seconds=0.5) as second:
        asking = asyncio.create_task(first.ask([BELL]))
        await eventually(lambda: slow.rounds)
        (answer,) = await second.ask([BELL])
        assert isinstance(answer, Unanswered)
        assert answer.reason == "another owner is asking for it"
        assert 0 < answer.retry_after_seconds <= 0.5
        go.set()
        await asking
    assert quick.rounds == 0


async def test_an_owner_killed_between_claim_and_outcome_is_waited_for_until_its_lease_ends(
    redis: str, valkey: FaultyValkey
) -> None:
    lease = 1.0
    command = [sys.executable, "-m", "tests.kit.dying_owner", redis, BELL.bell, str(lease)]
    dying = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert dying.stdout is not None
    assert await dying.stdout.readline() == b"asking\n"
    dying.kill()
    assert await dying.wait() == -signal.SIGKILL
    killed_at, left = time.monotonic(), await valkey.redis.pttl(record_of(BELL)) / 1000
    assert 0 < left <= lease, "its claim is still there"

    bells, pauses = Bells(), Pauses()
    async with owner(redis, bells, lease_seconds=lease, pause=pauses) as guarded:
        assert await guarded.ask([BELL]) == [Rung(number=1)]
    assert pauses.begun.is_set()
    assert time.monotonic() - killed_at >= left
    assert bells.asked == {BELL: 1}


async def test_who_lost_its_claim_keeps_nothing(redis: str, records: Records, valkey: FaultyValkey) -> None:
    assert await records.claim("first", [BELL]) == [None]
    await valkey.redis.pexpire(record_of(BELL), 0)
    assert await records.claim("second", [BELL]) == [None]

    await records.keep("first", [(BELL, b"of the first")])
    await records.release("first", [BELL])
    held = await records.claim("third", [BELL])
    assert held is not None
    assert isinstance(held[0], float), "the second still holds it"

    await records.keep("second", [(BELL, b"of the second")])
    assert await records.claim("third", [BELL]) == [b"of the second"]


async def test_a_claim_sent_twice_because_its_reply_was_lost_is_one_claim(records: Records) -> None:
    assert await records.claim("first", [BELL]) == [None]
    assert await records.claim("first", [BELL]) == [None]
    await records.keep("first", [(BELL, b"outcome")])
    await records.keep("first", [(BELL, b"outcome")])
    assert await records.claim("first", [BELL]) == [b"outcome"]


@pytest.mark.parametrize("call_off", [True, False])
async def test_a_round_that_broke_off_leaves_no_claim(redis: str, call_off: bool) -> None:
    async def break_off() -> None:
        raise asyncio.CancelledError if call_off else ZeroDivisionError

    async with owner(redis, Bells(break_off)) as first, owner(redis, Bells()) as second:
        with pytest.raises((asyncio.CancelledError, ZeroDivisionError)):
            await first.ask([BELL])
        begun = time.monotonic()
        assert await second.ask([BELL]) == [Rung(number=1)]
        assert time.monotonic() - begun < 1.0, "it did not wait for the end of the lease"


# -- undoing ---------------------------------------------------------------------------------------------------------


async def test_what_was_undone_is_asked_again_not_given_from_the_record(redis: str) -> None:
    bells = Bells()
    undo = Silence(bell=BELL.bell)
    async with owner(redis, bells) as guarded:
        assert await guarded.ask([BELL]) == [Rung(number=1)]
        assert await guarded.ask([undo]) == [Silenced()]
        assert await guarded.ask([BELL]) == [Cracked(reason="it was silenced")]
    assert bells.asked == {BELL: 2, undo: 1}


async def test_an_undo_that_never_came_back_ends_the_outcome_all_the_same(redis: str) -> None:
    async def die() -> None:
        raise ZeroDivisionError

    bells = Bells()
    async with owner(redis, bells) as guarded:
        await guarded.ask([BELL])
        bells.meanwhile = die
        with pytest.raises(ZeroDivisionError):
            await guarded.ask([Silence(bell=BELL.bell)])
        bells.meanwhile = None
        await guarded.ask([BELL])
    assert bells.asked[BELL] == 2


async def test_an_undo_under_way_is_not_answered_with_what_it_undoes(records: Records) -> None:
    await records.claim("first", [BELL])
    await records.keep("first", [(BELL, b"outcome")])
    undo = Silence(bell=BELL.bell)
    assert await records.claim("second", [undo]) == [None]
    held = await records.claim("third", [undo])
    assert held is not None
    assert isinstance(held[0], float)


async def test_an_undo_waits_for_nobody_and_what_it_overtook_is_not_kept(redis: str, valkey: FaultyValkey) -> None:
    go = asyncio.Event()
    slow, bells = Bells(go.wait), Bells()
    async with owner(redis, slow) as frozen, owner(redis, bells) as successor:
        asking = asyncio.create_task(frozen.ask([BELL]))
        await eventually(lambda: slow.rounds)
        assert await successor.ask([Silence(bell=BELL.bell)]) == [Silenced()]
        go.set()
        assert await asking == [Rung(number=1)], "what the frozen owner was told; it cannot commit"
        assert await valkey.redis.exists(record_of(BELL)) == 0, "nobody knows which came first"
        assert await successor.ask([BELL]) == [Cracked(reason="it was silenced")]


async def test_a_do_and_its_undo_in_one_round_leave_the_record_of_the_last(redis: str, records: Records) -> None:
    undo = Silence(bell=BELL.bell)
    async with owner(redis, Bells()) as guarded:
        assert await guarded.ask([BELL, undo]) == [Rung(number=1), Silenced()]
        assert await records.claim("other", [undo]) == [Outcomes.encode(Silenced())]
        await records.discard([(undo, Outcomes.encode(Silenced()))])
        await guarded.ask([Ring(bell="small")])
        small = Silence(bell="small")
        assert await guarded.ask([small, Ring(bell="small")]) == [Silenced(), Cracked(reason="it was silenced")]


# -- outcomes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "outcome",
    [
        b"\xc1 is not msgpack",
        msgspec.msgpack.encode(["Tolled", {"number": 1}]),
        msgspec.msgpack.encode(["Rung", {"count": 1}]),
        msgspec.msgpack.encode(["Silenced", {}]),
        b"",
    ],
    ids=["garbage", "an answer of another version", "fields of another version", "no answer to this", "nothing"],
)
async def test_an_outcome_that_cannot_be_read_is_asked_for_again(redis: str, records: Records, outcome: bytes) -> None:
    await records.claim("other", [BELL])
    await records.keep("other", [(BELL, outcome)])
    assert await records.claim("third", [BELL]) == [outcome]
    bells = Bells()
    async with owner(redis, bells) as guarded:
        assert await guarded.ask([BELL]) == [Rung(number=1)]
        assert await guarded.ask([BELL]) == [Rung(number=1)]
    assert bells.asked == {BELL: 1}


def test_every_answer_that_a_service_declares_is_read_as_it_was_written() -> None:
    outcomes = Outcomes(ringer())
    given: list[tuple[type[Effect], Answer]] = [
        (Ring, Rung(number=3)), (Ring, Cracked(reason="cold")), (Silence, Silenced()),
    ]  # fmt: skip
    for effect, answer in given:
        assert outcomes.decode(effect, outcomes.encode(answer)) == answer


def test_answers_that_are_not_declared_are_refused_at_start() -> None:
    vague = Service("vague", states=[Tower], world=ringer().world)

    @vague.answers(Ring)
    def note_anything(tower: Tower, answer: Answer) -> None:
        return

    with pytest.raises(WrongDeclaration, match="note_anything: annotate 'answer' with the answers that Ring may have"):
        Outcomes(vague)


async def test_services_do_not_share_records(redis: str) -> None:
    bells = Bells()
    async with owner(redis, bells) as one, owner(redis, bells, service=ringer("other")) as another:
        await one.ask([BELL])
        await another.ask([BELL])
    assert bells.asked == {BELL: 2}


async def test_without_redis_effects_are_asked_within_bounds_all_the_same() -> None:
    bells = Bells()
    async with owner("redis://127.0.0.1:1", bells) as example:
        bare = Guarded(ringer(), bells, example.dependencies[0])
        assert await bare.ask([BELL, BELL]) == [Rung(number=1), Rung(number=1)]
    assert bells.asked == {BELL: 1}
    assert [each.name for each in bare.dependencies] == ["bells"]


# -- bugs planted in the guard -----------------------------------------------------------------------------------------


@planted(
    Bug(
        "nothing is looked up before it is asked",
        Guarded,
        "_answer",
        "if self._records is not None else None",
        "if False else None",
        test_an_outcome_is_given_again_and_nobody_is_asked,
    ),
    Bug(
        "who lost its claim keeps its outcome",
        kit_records,
        "_KEEP",
        "if owner == ARGV[1] then",
        "if owner then",
        test_who_lost_its_claim_keeps_nothing,
    ),
    Bug(
        "an undo is answered with what it undoes",
        kit_records,
        "_CLAIM",
        "if string.sub(record, 1, #kept) == kept then",
        "if string.sub(record, 1, 5) == 'kept ' then",
        test_an_undo_under_way_is_not_answered_with_what_it_undoes,
    ),
    Bug(
        "a claim is not released when its round breaks off",
        Guarded,
        "_settle",
        "await self._records.release(owner, left)",
        "pass",
        test_a_round_that_broke_off_leaves_no_claim,
    ),
)
async def test_a_bug_planted_in_the_guard_of_effects_is_found(
    bug: Bug, redis: str, valkey: FaultyValkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    bug.plant(monkeypatch)
    async with Records.at(redis, "ringer", 3600.0, 5.0) as records:
        await bug.is_found(redis=redis, records=records, valkey=valkey, call_off=False)
