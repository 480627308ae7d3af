"""Whatever strangers send, over the log and over HTTP, has an answer, and everybody else's orders go on."""

import random
import struct
from collections.abc import Mapping
from typing import Any, NamedTuple
from uuid import uuid4

import pytest
from confluent_kafka import KafkaError
from msgspec.structs import replace

from api.events import CancelOrder, OrderLine, PlaceOrder
from streams.kit.events import Request
from streams.kit.kafka import partition_of
from streams.kit.shop import CUSTOMER, Order, order_body
from tests.faults.harness import LONG, Ground, seeds, under_load
from tests.faults.load import Load
from tests.faults.strangers import ADDRESS, NotTaken, Stranger, asked_for
from tests.waiting import eventually

FIRST_ORDERS = 40
ANSWERED_SECONDS = 60.0
LANES = 4
FIVE_MEGABYTES = 5_000_000
MANY_LINES = 10_000
UNKNOWN_ID = struct.pack(">bI", 0, 2**31 - 1)
pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def shared_ground(own_ground: Ground) -> Ground:
    """Where nobody else reads: some records break the clients that tests read with."""
    return own_ground


def lines(*quantities: int) -> tuple[OrderLine, ...]:
    return tuple(OrderLine(sku="lamp", quantity=quantity) for quantity in quantities)


# -- over the log: put aside -----------------------------------------------------------------------------------------


class Bad(NamedTuple):
    """A record that can only be put aside, and words of the message that its operator is shown."""

    key: bytes | None
    value: bytes
    words: str
    partition: int = -1
    compression: str = "none"
    reason: str = "Undecodable"


def bad_records(stranger: Stranger, load: Load, placed: Order, luck: random.Random) -> dict[str, Bad]:
    shop = load.shop.tenant

    def refused(request: Request, words: str) -> Bad:
        return Bad(request.key.encode(), stranger.encode(request), words, reason="Refused")

    good = asked_for(shop)
    key, value = good.order_id.encode(), stranger.encode(good)
    elsewhere = (partition_of(key, LANES) + 1) % LANES
    of_another = CancelOrder(tenant="another-shop", order_id=placed.id, asked_by="somebody")
    too_early = CancelOrder(tenant=shop, order_id=str(uuid4()), asked_by=CUSTOMER)
    return {
        "garbage": Bad(key, b"\x01" + luck.randbytes(200), "wire format"),
        "nothing": Bad(key, b"", "wire format"),
        "an unknown schema": Bad(key, UNKNOWN_ID + value[5:], "knows no schema with id 2147483647"),
        "other bytes than the schema says": Bad(key, value[:5] + b"\xff" * 40, "the bytes are no PlaceOrder"),
        "cut short": Bad(key, value[: len(value) // 2], "the bytes are no PlaceOrder"),
        "no key": Bad(None, value, "no key"),
        "a key that is no text": Bad(b"\xff\xfe", value, "not UTF-8"),
        "a wrong partition": Bad(key, value, "murmur2", partition=elsewhere),
        "5 MB packed into a few": Bad(key, b"\x01" * FIVE_MEGABYTES, "wire format", compression="zstd"),
        "another shop's tenant": refused(of_another, "belongs to another shop"),
        "a cancellation of nothing": refused(too_early, "no such order was placed"),
        "an order id that is none": refused(asked_for(shop, order_id="x"), "an order id is a UUID"),
        "a tenant that is two": refused(asked_for("a/b"), "the tenant"),
    }


# -- over the log: rejected ------------------------------------------------------------------------------------------


def nonsense(tenant: str) -> dict[str, tuple[PlaceOrder, str]]:
    """Orders that the schema allows and nobody can want, and why each is rejected."""
    return {
        "less than nothing": (asked_for(tenant, lines=lines(-1)), "INVALID"),
        "nothing of it": (asked_for(tenant, lines=lines(0)), "INVALID"),
        "more than there is": (asked_for(tenant, lines=lines(2**31 - 1)), "INVALID"),
        "no lines": (asked_for(tenant, lines=()), "INVALID"),
        "10,000 lines": (asked_for(tenant, lines=lines(*[1] * MANY_LINES)), "INVALID"),
        "a currency that is none": (asked_for(tenant, currency="euro"), "INVALID"),
        "another currency": (asked_for(tenant, currency="USD"), "WRONG_CURRENCY"),
        "a zero character": (asked_for(tenant, payment_method="card\0ok"), "INVALID"),
        "5 MB of street": (asked_for(tenant, ship_to=replace(ADDRESS, street="A" * FIVE_MEGABYTES)), "INVALID"),
    }


# -- over HTTP -------------------------------------------------------------------------------------------------------


def good_body() -> dict[str, Any]:
    return order_body([("lamp", 1)], "card-ok", "DE", "EUR")


def bad_bodies() -> dict[str, tuple[Mapping[str, Any], int, str]]:
    """What is posted, and the status and the problem type of the answer."""

    def with_quantity(quantity: Any) -> dict[str, Any]:
        return {"json": {**good_body(), "lines": [{"sku": "lamp", "quantity": quantity}]}}

    many = [{"sku": "lamp", "quantity": 1}] * MANY_LINES
    return {
        "garbage": ({"content": b"\xff\x00garbage"}, 400, "malformed-body"),
        "5 MB": ({"content": b"[" * FIVE_MEGABYTES}, 413, "body-too-large"),
        "10,000 lines": ({"json": {**good_body(), "lines": many}}, 413, "body-too-large"),
        "101 lines": ({"json": {**good_body(), "lines": many[:101]}}, 422, "invalid-request"),
        "less than nothing": (with_quantity(-1), 422, "invalid-request"),
        "nothing of it": (with_quantity(0), 422, "invalid-request"),
        "more than there is": (with_quantity(10**30), 422, "invalid-request"),
        "a quantity that is none": (with_quantity("1"), 422, "invalid-request"),
        "a currency that is none": ({"json": {**good_body(), "currency": "euro"}}, 422, "invalid-request"),
        "a price of its own": ({"json": {**good_body(), "total": 1}}, 422, "invalid-request"),
    }


# -- the tests -------------------------------------------------------------------------------------------------------


@LONG
@pytest.mark.parametrize("seed", seeds())
async def test_every_bad_record_and_request_has_an_answer_of_its_own_and_all_other_orders_end_well(
    ground: Ground, seed: int
) -> None:
    stranger = Stranger(ground.stack.addresses)
    await stranger.learn()
    async with under_load(ground, seed) as load:
        await load.accepted(FIRST_ORDERS)
        placed = await load.shop.place(sku="lamp")
        await load.shop.settled(placed)
        await refuses_what_is_too_large(stranger)
        await puts_aside(stranger, bad_records(stranger, load, placed, random.Random(seed)))
        await rejects(stranger, load)
        await takes_what_is_only_unusual(stranger, load)
        await has_a_problem_for(ground, load, placed)


async def refuses_what_is_too_large(stranger: Stranger) -> None:
    """The log itself, so that its sender hears of it."""
    with pytest.raises(NotTaken) as refusal:
        await stranger.send(uuid4().hex.encode(), random.randbytes(FIVE_MEGABYTES))
    assert refusal.value.code == KafkaError.MSG_SIZE_TOO_LARGE


async def puts_aside(stranger: Stranger, bad: Mapping[str, Bad]) -> None:
    """Each with its reason, and nothing else with it."""
    before = await stranger.letters()
    sent = {
        await stranger.send(each.key, each.value, each.partition, each.compression): (name, each.reason, each.words)
        for name, each in bad.items()
    }
    unreadable = await stranger.send_unreadable(b"k", 0)
    sent[unreadable] = "a header name that is not UTF-8", "Undecodable", "nothing"

    async def all_put_aside() -> bool:
        return sent.keys() <= (await stranger.letters()).keys()

    await eventually(all_put_aside, ANSWERED_SECONDS, "every bad record is a dead letter")
    letters = await stranger.letters()
    assert letters.keys() - before.keys() == sent.keys()
    for origin, (name, reason, words) in sent.items():
        assert letters[origin].reason == reason, (name, letters[origin])
        assert words in letters[origin].message, (name, letters[origin])


async def rejects(stranger: Stranger, load: Load) -> None:
    for name, (request, reason) in nonsense(load.shop.tenant).items():
        await stranger.send(request.order_id.encode(), stranger.encode(request), compression="zstd")
        shown = await load.shop.settled(Order(request.order_id, CUSTOMER))
        assert (shown.status, shown.reason) == ("rejected", reason), name


async def takes_what_is_only_unusual(stranger: Stranger, load: Load) -> None:
    """Compressed batches, and a newer version of the contract, which has a field more."""
    asked = {codec: [asked_for(load.shop.tenant) for _ in range(20)] for codec in ("gzip", "snappy", "lz4", "zstd")}
    for codec, requests in asked.items():
        records = [(each.order_id.encode(), stranger.encode(each)) for each in requests]
        assert len(await stranger.send_batch(list(records), compression=codec)) == len(requests)
    orders = [Order(each.order_id, CUSTOMER) for requests in asked.values() for each in requests]
    newer = asked_for(load.shop.tenant)
    await stranger.send(newer.order_id.encode(), stranger.encode_newer(newer))
    orders.append(Order(newer.order_id, CUSTOMER))
    for order in orders:
        assert await load.shop.status(order) == "confirmed"


async def has_a_problem_for(ground: Ground, load: Load, placed: Order) -> None:
    token = ground.platform.issuer.token
    customer = {"Authorization": f"Bearer {token(load.shop.tenant, CUSTOMER)}", "Content-Type": "application/json"}
    for name, (body, status, slug) in bad_bodies().items():
        headers = {**customer, "Idempotency-Key": uuid4().hex}
        answer = await ground.http.post("/v1/orders", headers=headers, **body)
        assert (answer.status_code, answer.json()["type"]) == (status, f"/problems/{slug}"), name
    foreign = {"Authorization": f"Bearer {token('another-shop', CUSTOMER)}"}
    for method, path in (("GET", ""), ("POST", "/cancellation")):
        answer = await ground.http.request(method, f"/v1/orders/{placed.id}{path}", headers=foreign)
        assert (answer.status_code, answer.json()["type"]) == (404, "/problems/no-such-order")
