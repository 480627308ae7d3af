"""The schema registry as a running process asks it, through Confluent's own client."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from confluent_kafka.schema_registry import AsyncSchemaRegistryClient, Schema
from confluent_kafka.schema_registry.error import SchemaRegistryError
from tenacity import AsyncRetrying, retry_if_exception, stop_after_delay, wait_random_exponential

from streams.kit.errors import LanguageError, RegistryAway
from streams.kit.logs import logger

PATIENCE_SECONDS = 30.0
_NOT_FOUND = 404
T = TypeVar("T")


class ConfluentRegistry:
    """Any registry that speaks Confluent's API. Away for a while: waited for; away for longer: `RegistryAway`."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._client = AsyncSchemaRegistryClient({"url": url, "max.retries": 0, "timeout": 5})

    async def id_of(self, subject: str, schema: str) -> int:
        try:
            found = await self._ask(lambda: self._client.lookup_schema(subject, Schema(schema, "AVRO")))
        except SchemaRegistryError as error:
            if error.http_status_code == _NOT_FOUND:
                raise LanguageError(
                    f"{subject}: this version was not registered at {self._url}. Run 'pavane schemas push' first."
                ) from None
            raise
        return int(found.schema_id or 0)

    async def schema_of(self, schema_id: int) -> str | None:
        try:
            found = await self._ask(lambda: self._client.get_schema(schema_id))
        except SchemaRegistryError as error:
            if error.http_status_code == _NOT_FOUND:
                return None
            raise
        # Protobuf and JSON schemas have ids of the same series: they are not Avro's to read.
        return str(found.schema_str) if found.schema_type == "AVRO" else None

    async def _ask(self, question: Callable[[], Awaitable[T]]) -> T:
        patient = AsyncRetrying(
            retry=retry_if_exception(_is_passing),
            wait=wait_random_exponential(max=2),
            stop=stop_after_delay(PATIENCE_SECONDS),
            before_sleep=lambda state: logger().warning("registry_away", url=self._url, attempt=state.attempt_number),
            reraise=True,
        )

        async def asked() -> T:
            return await question()

        try:
            return await patient(asked)
        except Exception as error:
            if isinstance(error, SchemaRegistryError) and not _is_passing(error):
                raise
            # Whatever the client's transport raises: after all this trying, nobody answers there.
            raise RegistryAway(f"the schema registry at {self._url} does not answer: {error}") from error


def _is_passing(error: BaseException) -> bool:
    status = getattr(error, "http_status_code", None)
    return not isinstance(error, asyncio.CancelledError) and (status is None or status == 429 or status >= 500)
