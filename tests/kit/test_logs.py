"""Logs are JSON lines with the same keys everywhere, and a library that repeats itself is heard once."""

import json
import logging
import subprocess
import sys
import time
from datetime import datetime
from typing import Any

import pytest

from streams.kit import logs
from streams.kit.logs import Quieter

SPEAKS = """
import logging
from streams.kit import logs
logs.set_up("billing", {level!r})
log = logs.logger(partition=3)
log.debug("too_fine")
log.info("lane_taken", epoch=7)
logging.getLogger("aiokafka").warning("broker %s is away", "b1")
logging.getLogger("aiokafka").info("not of interest")
try:
    1 / 0
except ZeroDivisionError:
    log.exception("it_broke")
"""


def lines(level: str = "info") -> list[dict[str, Any]]:
    """What a process writes to standard error."""
    script = SPEAKS.format(level=level)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == ""
    return [json.loads(line) for line in done.stderr.splitlines()]


def test_every_line_is_an_object_with_the_same_first_keys() -> None:
    taken, library, broke = lines()
    for line in (taken, library, broke):
        assert line["service"] == "billing"
        assert datetime.fromisoformat(line["at"]).tzinfo is not None
    assert (taken["event"], taken["level"], taken["partition"], taken["epoch"]) == ("lane_taken", "info", 3, 7)
    assert (library["event"], library["level"], library["logger"]) == ("broker b1 is away", "warning", "aiokafka")
    assert (broke["event"], broke["level"]) == ("it_broke", "error")
    assert "ZeroDivisionError" in broke["exception"]


def test_the_level_says_what_is_left_out() -> None:
    assert lines("debug")[0]["event"] == "too_fine"
    assert [line["event"] for line in lines("error")] == ["it_broke"]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def says(quieter: Quieter, message: str, *values: Any, logger: str = "aiokafka") -> str | None:
    record = logging.LogRecord(logger, logging.WARNING, "", 0, message, values, None)
    return record.getMessage() if quieter.filter(record) else None


def test_a_library_that_repeats_itself_is_heard_once_in_a_while_with_how_often(clock: list[float]) -> None:
    quieter = Quieter()
    assert says(quieter, "broker %s is away", "b1") == "broker b1 is away"
    assert [says(quieter, "broker %s is away", f"b{n}") for n in range(5)] == [None] * 5
    clock[0] += logs.QUIET_SECONDS
    assert says(quieter, "broker %s is away", "b2") == "broker b2 is away (and 5 more like this)"
    assert says(quieter, "broker %s is away", "b2") is None
    clock[0] += logs.QUIET_SECONDS
    assert says(quieter, "broker %s is away", "b2") == "broker b2 is away (and 1 more like this)"


def test_other_lines_and_other_libraries_are_not_held_back_with_it(clock: list[float]) -> None:
    quieter = Quieter()
    says(quieter, "broker is away")
    assert says(quieter, "group is gone") == "group is gone"
    assert says(quieter, "broker is away", logger="other") == "broker is away"
