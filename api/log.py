"""Requests onto the log: each one acknowledged by all in-sync replicas in time, or refused.

The producer is idempotent, so its own retries neither double nor reorder. They also never end by themselves: the time
is bounded here. A record whose time ran out after it was handed over may still come onto the log later, as long as its
producer is not given up. It then names the same order or receipt as the caller's retry, which is done once; a price
says when it was asked for, and changes nothing once another was taken that was asked for later. So it does no harm.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterator

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaConnectionError, KafkaError

from api.correlation import new_id
from api.errors import NotAccepted, OutcomeUnknown, Unavailable
from api.events import by_topic
from api.telemetry import ACKNOWLEDGED, NOT_ACKNOWLEDGED
from streams.kit.breaker import Breaker, Mode
from streams.kit.calling_off import called_off
from streams.kit.closed import tell_closed_connections
from streams.kit.codec import Codec
from streams.kit.counting import lanes_among
from streams.kit.errors import BreakerOpen
from streams.kit.events import Request
from streams.kit.kafka import partition_of
from streams.kit.logs import logger
from streams.kit.policies import Policy

tell_closed_connections()

PATIENCE_SECONDS = 5.0
RECONNECT_SECONDS = 1.0
ASK_AGAIN_SECONDS = 2.0
LEFT_ALONE = Policy(failures_to_open=20, open_seconds=1.0)
"""So many in a row do not fail by chance where one lane's leader is away and the other lanes answer."""
_REQUEST_TIMEOUT_MS = 5_000
_CLOSE_SECONDS = 1.0

OpenCodec = Callable[[], Awaitable[Codec]]
LaneCount = Callable[[], Awaitable[int | None]]


async def _not_remembered() -> int | None:
    """There is nobody to ask: the topics themselves must agree."""
    return None


class RequestLog:
    """The gateway's way onto the log. It connects in the background and again after every failure of the producer.

    `lanes`: how many lanes the services have, None if they have none yet; raises `Unavailable`. A topic that has grown
    has more partitions than anybody hears, so it is asked until it says.
    What waits while the broker is away is bounded: one batch of 16 KiB a partition; a record that finds no room is
    refused when its time is over. When many in a row were, the next are refused at once, but for one that tries.
    """

    def __init__(
        self,
        bootstrap: str,
        open_codec: OpenCodec,
        lanes: LaneCount = _not_remembered,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        self._bootstrap = bootstrap
        self._open_codec = open_codec
        self._lanes = lanes
        self._lane_count = 0
        self._remembered: int | None = None
        self._patience_seconds = patience_seconds
        self._codec: Codec | None = None
        self._producer: AIOKafkaProducer | None = None
        self._connected = asyncio.Event()
        self._broken = asyncio.Event()
        self._missing = "not connected yet"
        self._keeper: asyncio.Task[None] | None = None
        self._breaker = Breaker("kafka", LEFT_ALONE, time.monotonic, self._tell_mode)

    def start(self) -> None:
        """Begin to connect; returns at once."""
        self._keeper = asyncio.create_task(self._keep_connected(), name="request log")

    async def close(self) -> None:
        """Send what is under way, for a second at most, and let go."""
        await called_off(self._keeper)
        await self._drop_producer()

    async def append(self, request: Request, correlation: str, traceparent: bytes | None) -> None:
        """Return once the log has acknowledged `request`.

        Raises `NotAccepted` when it is certain that it did not come onto the log, and `OutcomeUnknown` when it is not.
        """
        began = time.monotonic()
        producer = acknowledged = None
        try:
            with self._let_in(request):
                async with asyncio.timeout(self._patience_seconds):
                    producer, acknowledged = await self._hand_over(request, correlation, traceparent)
                    # Shielded, because a batch that others wait for as well must not be cancelled by one of them.
                    await asyncio.shield(acknowledged)
        except TimeoutError:
            raise self._refused(request, NotAccepted() if acknowledged is None else OutcomeUnknown()) from None
        except KafkaError as error:
            # A batch that failed leaves a gap in the producer's sequence numbers: the log would refuse all that follow.
            self._break_off(producer, error)
            raise self._refused(request, OutcomeUnknown()) from error
        ACKNOWLEDGED.labels(request.topic).observe(time.monotonic() - began)

    @contextlib.contextmanager
    def _let_in(self, request: Request) -> Iterator[None]:
        """Raises `NotAccepted` at once while the log is left alone; otherwise notes how the block went."""
        try:
            ticket = self._breaker.admit()
        except BreakerOpen as error:
            raise self._refused(request, NotAccepted()) from error
        try:
            yield
        except (TimeoutError, NotAccepted):
            self._breaker.failed(ticket, "not acknowledged in time")
            raise
        except BaseException:
            self._breaker.left(ticket)
            raise
        self._breaker.answered(ticket)

    def _tell_mode(self, before: Mode) -> None:
        if before is Mode.CLOSED:
            logger().warning("log_left_alone", kafka=self._bootstrap, consequence="what is to be written is refused")
        elif self._breaker.mode is Mode.CLOSED:
            logger().info("log_answers_again", kafka=self._bootstrap)

    async def _hand_over(
        self, request: Request, correlation: str, traceparent: bytes | None
    ) -> tuple[AIOKafkaProducer, asyncio.Future[object]]:
        producer = None
        try:
            await self._connected.wait()
            producer, codec = self._producer, self._codec
            assert producer is not None
            assert codec is not None
            acknowledged: asyncio.Future[object] = await producer.send(
                request.topic,
                value=codec.encode(request),
                key=request.key.encode(),
                partition=partition_of(request.key.encode(), self._lane_count),
                headers=_headers(type(request).__name__, correlation, traceparent),
            )
            return producer, acknowledged
        except KafkaError as error:
            if not error.retriable:
                self._break_off(producer, error)
            raise self._refused(request, NotAccepted()) from error
        except AssertionError as error:
            # The client's word for a partition that is not there any more: the topic was made anew with fewer.
            self._break_off(producer, error)
            raise self._refused(request, NotAccepted()) from error

    async def reachable(self) -> None:
        """Raises when the log does not answer, with what is missing."""
        producer = self._producer
        if not self._connected.is_set() or producer is None:
            raise ConnectionError(self._missing)
        if not await producer.client.force_metadata_update():
            raise ConnectionError(f"no broker of {self._bootstrap} answers")

    # -- staying connected -------------------------------------------------------------------------------------------

    async def _keep_connected(self) -> None:
        while True:
            try:
                await self._connect()
                logger().info("log_connected", kafka=self._bootstrap)
                await self._until_broken()
            except Exception as error:
                # Whatever stands in the way of being connected, there is one thing to do: say so and try again.
                self._missing = str(error)
                logger().warning("log_away", error=str(error), next_try_seconds=RECONNECT_SECONDS)
                await self._drop_producer()
                await asyncio.sleep(RECONNECT_SECONDS)
                continue
            self._broken.clear()
            await self._drop_producer()

    async def _connect(self) -> None:
        if self._codec is None:
            self._missing = "waiting for the schema registry"
            codec = await self._open_codec()
            for topic, events in by_topic().items():
                await codec.prepare(topic, events)
            self._codec = codec
        self._missing = f"waiting for {self._bootstrap}"
        self._producer = AIOKafkaProducer(
            bootstrap_servers=self._bootstrap,
            client_id="pavane-gateway",
            acks="all",
            enable_idempotence=True,
            linger_ms=2,
            request_timeout_ms=_REQUEST_TIMEOUT_MS,
        )
        await self._producer.start()
        await self._count_lanes(self._producer)
        self._connected.set()

    async def _count_lanes(self, producer: AIOKafkaProducer) -> None:
        """Ask what the services remember; while nobody can say, what was said before holds, or what the topics have.

        Raises `PartitionsChanged`.
        """
        with contextlib.suppress(Unavailable):
            self._remembered = await self._lanes() or self._remembered
        counts = {topic: len(await producer.partitions_for(topic)) for topic in by_topic()}
        self._lane_count = lanes_among(counts, self._remembered)

    async def _until_broken(self) -> None:
        """Return when the producer has failed. Meanwhile ask again how many lanes there are, as long as nobody says."""
        while not self._broken.is_set():
            asks_again = ASK_AGAIN_SECONDS if self._remembered is None else None
            try:
                await asyncio.wait_for(self._broken.wait(), asks_again)
            except TimeoutError:
                producer = self._producer
                if producer is not None:
                    await self._count_lanes(producer)

    def _break_off(self, producer: AIOKafkaProducer | None, error: Exception) -> None:
        """Let a new producer take over; what the old one still holds ends as unknown."""
        if producer is self._producer and self._connected.is_set():
            self._connected.clear()
            self._missing = str(error)
            self._broken.set()
            logger().error("producer_given_up", error=repr(error))

    async def _drop_producer(self) -> None:
        self._connected.clear()
        producer, self._producer = self._producer, None
        if producer is None:
            return
        stopping = asyncio.create_task(producer.stop(), name="producer stops")
        await asyncio.wait([stopping], timeout=_CLOSE_SECONDS)
        if not stopping.done():
            # It first sends what it holds, whenever that may be: an older price would come after a newer one.
            logger().warning("producer_cut_off", consequence="records under way are in an unknown state")
            await called_off(producer._sender.sender_task)
            producer._message_accumulator.fail_all(KafkaConnectionError("the producer was given up"))
            # Now it closes its connections.
            await asyncio.wait([stopping], timeout=_CLOSE_SECONDS)
        await called_off(stopping)

    def _refused(self, request: Request, problem: NotAccepted | OutcomeUnknown) -> NotAccepted | OutcomeUnknown:
        NOT_ACKNOWLEDGED.labels(request.topic, problem.slug).inc()
        return problem


def _headers(name: str, correlation: str, traceparent: bytes | None) -> list[tuple[str, bytes]]:
    headers = [
        ("ce_specversion", b"1.0"),
        ("ce_id", new_id().encode()),
        ("ce_source", b"gateway"),
        ("ce_type", name.encode()),
        ("correlation", correlation.encode()),
    ]
    return headers if traceparent is None else [*headers, ("traceparent", traceparent)]
