"""While the registry does not answer, only what cannot be read without it waits."""

import asyncio

import msgspec

from streams.kit.errors import RegistryAway
from streams.kit.log import Record
from streams.kit.parking import BEHIND, UNREAD
from streams.kit.writers import HEAD
from tests.kit.counter import Counter, SchemaIds
from tests.kit.running import KEYS, Counting
from tests.waiting import eventually

KEYLESS = b"the record has no key, so nothing says which partition it belongs in"
UNKNOWN = b"the registry knows no schema with id 4000000000"


class AwayForNews(SchemaIds):
    """A registry that, until it is back, does not answer questions about ids that were not asked of it before."""

    def __init__(self, texts: list[str]) -> None:
        super().__init__(texts)
        self.is_away = asyncio.Event()
        self.questions = 0

    async def schema_of(self, schema_id: int) -> str | None:
        self.questions += 1
        if self.is_away.is_set():
            raise RegistryAway("the schema registry does not answer")
        return await super().schema_of(schema_id)


def newer(counter: Counter, key: str, amount: int) -> bytes:
    """A request in a version of its contract that has a field more, which nobody here has seen."""
    asked = counter.add(key, amount)
    [text] = [text for text in counter.registry.texts if msgspec.json.decode(text)["name"] == "Add"]
    schema = msgspec.json.decode(text)
    schema["fields"].append({"name": "later", "type": "string", "default": ""})
    counter.registry.texts.append(msgspec.json.encode(schema).decode())
    return HEAD.pack(0, len(counter.registry.texts) - 1) + asked[5:] + b"\0"


async def test_what_only_an_absent_registry_can_read_waits_with_its_order_and_all_others_go_on(
    counting: Counting,
) -> None:
    counter = counting.counter
    value, unknown = newer(counter, "k0", 5), counter.unknown_schema()
    registry = AwayForNews(counter.registry.texts)
    counter.codec._writers._registry = registry
    registry.is_away.set()
    instance = await counting.start()
    await counting.send(
        Record(counter.requests, counting.partition("k0"), 0, 0, b"k0", value, ()),
        Record(counter.requests, counting.partition("k1"), 0, 0, b"k1", unknown, ()),
        Record(counter.requests, 0, 0, 0, None, unknown, ()),
    )
    await counting.ask(*((key, 1) for key in KEYS))
    await counting.until_totals(dict.fromkeys(KEYS[2:], 1))
    expected = [("", "Undecodable"), ("k0", UNREAD), ("k0", BEHIND), ("k1", UNREAD), ("k1", BEHIND)]
    await eventually(lambda: parked(counting, expected))
    assert registry.questions > 0
    assert instance.readiness()["ready"]

    registry.is_away.clear()
    await counting.until_totals({**dict.fromkeys(KEYS, 1), "k0": 6})
    await eventually(lambda: parked(counting, [("", "Undecodable"), ("k1", "Undecodable")]))
    why = sorted(letter["dead_letter_message"] for letter in await counting.letters())
    assert [text[:44] for text in why] == [KEYLESS[:44], UNKNOWN[:44]], "each once, as if it had come now"
    await counting.ask(("k1", 1))
    await counting.until_totals({**dict.fromkeys(KEYS, 1), "k0": 6, "k1": 2})


async def parked(counting: Counting, expected: list[tuple[str, str]]) -> bool:
    return await counting.rows("SELECT key, reason FROM parked ORDER BY key, number") == expected
