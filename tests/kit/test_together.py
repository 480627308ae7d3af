"""Many who ask at one time ask once; nobody waits for others without end, or is refused for another's sake."""

import asyncio
from collections.abc import Collection

import pytest

from streams.kit.together import Together


class Unknown(Exception):
    """One key cannot be answered."""


class Late(Exception):
    pass


class Oracle:
    """Answers each key with itself in capitals, once it is let."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.let = asyncio.Event()

    async def ask(self, keys: Collection[str]) -> dict[str, str]:
        self.asked.append(list(keys))
        await self.let.wait()
        if "gone" in keys:
            raise OSError("away")
        if "bad" in keys:
            raise Unknown
        return {key: key.upper() for key in keys if key != "nobody"}


def together(oracle: Oracle, wait_seconds: float = 20.0) -> Together[str, str]:
    return Together(oracle.ask, wait_seconds, Late, alone_after=Unknown)


async def all_of(one: Together[str, str], *wishes: list[str]) -> list[asyncio.Task[dict[str, str]]]:
    """The first is under way, the others wait for it."""
    tasks = []
    for wish in wishes:
        tasks.append(asyncio.create_task(one.answers(wish)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    return tasks


async def test_what_comes_while_a_question_is_under_way_is_asked_together_as_the_next():
    oracle = Oracle()
    tasks = await all_of(together(oracle), ["a"], ["b"], ["c", "b"], ["nobody", "d"])
    oracle.let.set()

    assert await asyncio.gather(*tasks) == [{"a": "A"}, {"b": "B"}, {"c": "C", "b": "B"}, {"d": "D"}]
    assert oracle.asked == [["a"], ["b", "c", "nobody", "d"]]


async def test_a_failure_is_told_to_all_who_asked_and_the_next_question_is_asked_anew():
    oracle = Oracle()
    one = together(oracle)
    tasks = await all_of(one, ["a"], ["gone"], ["b"])
    oracle.let.set()

    told = await asyncio.gather(*tasks, return_exceptions=True)
    assert told[0] == {"a": "A"}
    assert [type(each) for each in told[1:]] == [OSError, OSError]
    assert await one.answers(["b"]) == {"b": "B"}


async def test_one_key_that_cannot_be_answered_keeps_nobody_else_from_an_answer():
    oracle = Oracle()
    tasks = await all_of(together(oracle), ["a"], ["bad"], ["b"])
    oracle.let.set()

    told = await asyncio.gather(*tasks, return_exceptions=True)
    assert told[0] == {"a": "A"} and told[2] == {"b": "B"}
    assert isinstance(told[1], Unknown)


async def test_who_goes_away_takes_nobodys_answer_along():
    oracle = Oracle()
    tasks = await all_of(together(oracle), ["a"], ["b"], ["c"])
    tasks[0].cancel()
    tasks[1].cancel()
    await asyncio.sleep(0)
    oracle.let.set()

    assert await tasks[2] == {"c": "C"}
    assert oracle.asked == [["a"], ["b", "c"]]


async def test_nobody_waits_without_end_for_what_others_asked():
    oracle = Oracle()
    one = together(oracle, wait_seconds=0.05)
    tasks = await all_of(one, ["a"], ["b"])
    with pytest.raises(Late):
        await tasks[1]
    oracle.let.set()

    assert await tasks[0] == {"a": "A"}
    assert await one.answers(["c"]) == {"c": "C"}
