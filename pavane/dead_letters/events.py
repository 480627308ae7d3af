"""What records say: the event's name and fields, by the released schemas and the registry's ids."""

import asyncio
import struct
from collections.abc import Iterable
from typing import Any

from pavane.audit.decoding import Decoder
from streams.kit.errors import RegistryAway, Undecodable
from streams.kit.lane import REQUESTS
from streams.kit.language import Language
from streams.kit.log import Record
from streams.kit.writers import Registry

LOOK_UP_SECONDS = 5.0
UNKNOWN = "?"
_HEAD = struct.Struct(">bI")


class Events:
    """Reads events. Facts name themselves in a header; of requests the registry must be asked, once a schema."""

    def __init__(self, language: Language, registry: Registry) -> None:
        self._registry = registry
        self._schemas: dict[int, str | None] = {}
        self._decoder = Decoder(language, self._schemas.get)
        self.away = False

    async def learn(self, records: Iterable[Record]) -> None:
        """Fetch the schemas that these records need. `away` says that the registry did not answer in time."""
        wanted = {
            _HEAD.unpack_from(record.value)[1]
            for record in records
            if record.value and len(record.value) >= _HEAD.size and record.value[0] == 0
        }
        for schema_id in wanted - self._schemas.keys():
            if self.away:
                return
            try:
                async with asyncio.timeout(LOOK_UP_SECONDS):
                    self._schemas[schema_id] = await self._registry.schema_of(schema_id)
            except (RegistryAway, TimeoutError):
                self.away = True

    async def name(self, record: Record) -> str:
        """The event's name, or `UNKNOWN` when nobody knows it."""
        # Anybody may write a request, with headers like a fact's.
        named = None if record.topic.endswith(REQUESTS) else dict(record.headers).get("ce_type")
        if named is not None:
            return named.decode(errors="replace")
        await self.learn([record])
        try:
            return self._decoder.name_of(record.value)
        except Undecodable:
            return UNKNOWN

    async def decode(self, record: Record) -> tuple[str, dict[str, Any]]:
        """Name and fields, as the topic's latest version has them. Raises `Undecodable`."""
        await self.learn([record])
        if self.away:
            raise Undecodable("the registry does not answer, so the bytes cannot be read now")
        return self._decoder.decode(record.topic, record.value)
