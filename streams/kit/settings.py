"""Settings: frozen, validated once at start, read from the environment.

A settings class is a frozen struct; the field `batch_records` is read from `PAVANE_BATCH_RECORDS`. Every field has a
description with its unit. `WrongSetting` names the variable, what it is for and what is allowed.
"""

import os
from collections.abc import Mapping
from typing import Annotated, Any, Self, TypeVar, get_type_hints

import msgspec

from streams.kit.errors import WrongSetting

T = TypeVar("T")
PREFIX = "PAVANE_"


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What all processes of the platform share."""

    kafka: Annotated[str, msgspec.Meta(min_length=3, description="Kafka bootstrap servers, host:port,host:port")]
    registry: Annotated[
        str,
        msgspec.Meta(pattern=r"^https?://", description="URL of the schema registry's Confluent API"),
    ]
    log_level: Annotated[
        str,
        msgspec.Meta(pattern="^(debug|info|warning|error)$", description="least severity of log lines"),
    ] = "info"

    @classmethod
    def read(cls, environment: Mapping[str, str] | None = None, **given: Any) -> Self:
        """Read every field from the environment; `given` values win. Raises `WrongSetting`."""
        environment = os.environ if environment is None else environment
        fields: dict[str, Any] = {}
        for name in cls.__struct_fields__:
            value = environment.get(PREFIX + name.upper())
            if value is not None and value != "":
                fields[name] = value
        fields.update(given)
        try:
            return msgspec.convert(fields, cls, strict=False)
        except msgspec.ValidationError as error:
            raise WrongSetting(_explain(cls, str(error))) from None


def _explain(cls: type[Any], error: str) -> str:
    hints = get_type_hints(cls, include_extras=True)
    for name, hint in hints.items():
        if f"`{name}`" in error or f"$.{name}" in error:
            meaning = next((m.description for m in getattr(hint, "__metadata__", ()) if m.description), "")
            problem = "is not set" if "missing" in error else error.split(" - at ")[0]
            return f"{PREFIX}{name.upper()} ({meaning}): {problem}"
    return error


class WorkerSettings(Settings, frozen=True, kw_only=True):
    """What one worker process is given. Sizes are records or facts, times are in their names."""

    database: Annotated[str, msgspec.Meta(pattern="^postgres(ql)?://", description="PostgreSQL URL of the service")]
    redis: Annotated[
        str,
        msgspec.Meta(pattern="^(rediss?|unix)://", description="Redis URL, for the records of effects; none without"),
    ] = ""
    effects_keep_days: Annotated[
        float, msgspec.Meta(gt=0, le=365, description="how long the outcome of an effect is kept in Redis")
    ] = 2.0
    batch_records: Annotated[int, msgspec.Meta(ge=1, le=10_000, description="most records in one transaction")] = 2_000
    queue_records: Annotated[
        int, msgspec.Meta(ge=1, description="records of one partition read ahead before its topic pauses")
    ] = 1_000
    unacknowledged_facts: Annotated[
        int, msgspec.Meta(ge=1, description="facts not acknowledged by the log before no more are decided")
    ] = 20_000
    outbox_keep_seconds: Annotated[
        float,
        msgspec.Meta(ge=0, le=31_536_000, description="how long said facts stay, to refill a log that lost its end"),
    ] = 60.0
    due_poll_seconds: Annotated[
        float, msgspec.Meta(gt=0, le=3_600, description="how often deadlines are looked for")
    ] = 0.5
    session_timeout_ms: Annotated[
        int, msgspec.Meta(ge=6_000, description="silence after which the group gives this worker's partitions away")
    ] = 10_000
    management_port: Annotated[
        int, msgspec.Meta(ge=0, le=65_535, description="port of /metrics and /health; 0 takes a free one")
    ] = 0
    management_host: Annotated[str, msgspec.Meta(description="address of the management port")] = "127.0.0.1"

    @classmethod
    def of(cls, service: str, environment: Mapping[str, str] | None = None) -> Self:
        """The settings of one service: its database is `PAVANE_DATABASE_<SERVICE>`."""
        environment = os.environ if environment is None else environment
        variable = f"{PREFIX}DATABASE_{service.upper()}"
        url = environment.get(variable)
        if not url:
            raise WrongSetting(f"{variable} (PostgreSQL URL of the service {service}): is not set")
        try:
            return cls.read(environment, database=url)
        except WrongSetting as error:
            raise WrongSetting(str(error).replace(f"{PREFIX}DATABASE (", f"{variable} (")) from None
