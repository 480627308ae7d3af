"""JSON logs, one object a line, with the same keys everywhere: `at`, `level`, `event`, `service`, and what matters.

Libraries log through the same door. A library that repeats itself (a Kafka client while the broker is away) is heard
once in ten seconds, with the number of lines left out.
"""

import logging
import sys
import time
from collections.abc import Hashable
from typing import Any, cast

import structlog

QUIET_SECONDS = 10.0
MOST_REMEMBERED = 1_000
EXPECTED = ("GroupCoordinatorNotAvailableError",)
"""What a client calls an error though it is every new cluster's first answer, and asked again."""


def set_up(service: str, level: str = "info") -> None:
    """Make all logging of this process JSON lines on standard error. `level`: debug, info, warning or error."""
    number = logging.getLevelName(level.upper())
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
        _with_service(service),
    ]
    structlog.configure(
        processors=[
            *shared,
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    handler.addFilter(Quieter())
    logging.basicConfig(handlers=[handler], level=max(number, logging.WARNING), force=True)


def logger(**bound: Any) -> structlog.typing.FilteringBoundLogger:
    """A logger with `bound` values on each of its lines."""
    return cast("structlog.typing.FilteringBoundLogger", structlog.get_logger(**bound))


class Seldom:
    """Tells of each key whether it is to be said now: once in `QUIET_SECONDS`. The oldest of very many is forgotten."""

    def __init__(self) -> None:
        # When it was last said, and how often it was held back since. Oldest first.
        self._said: dict[Hashable, tuple[float, int]] = {}

    def held_back(self, key: Hashable) -> int | None:
        """How often it was held back since it was last said; None: it is held back now."""
        now = time.monotonic()
        since, held = self._said.get(key, (float("-inf"), 0))
        if now - since < QUIET_SECONDS:
            self._said[key] = (since, held + 1)
            return None
        self._said.pop(key, None)
        if len(self._said) >= MOST_REMEMBERED:
            del self._said[next(iter(self._said))]
        self._said[key] = (now, 0)
        return held


class Quieter(logging.Filter):
    """Lets one line of each message template pass in `QUIET_SECONDS`, and says how many it held back."""

    def __init__(self) -> None:
        super().__init__()
        self._seldom = Seldom()

    def filter(self, record: logging.LogRecord) -> bool:
        if any(expected in record.getMessage() for expected in EXPECTED):
            return False
        held = self._seldom.held_back((record.name, str(record.msg)))
        if held is None:
            return False
        if held:
            record.msg = f"{record.msg} (and {held} more like this)"
        return True


def _with_service(service: str) -> Any:
    def add(_logger: Any, _method: str, event: dict[str, Any]) -> dict[str, Any]:
        event["service"] = service
        return event

    return add
