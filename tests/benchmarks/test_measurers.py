"""The processes that measure are tied to the benchmark: what becomes of them is its business alone."""

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from infra.processes import Child
from pavane.bench.proof import NotProven
from pavane.bench.scenarios import latency


async def test_a_listener_that_ends_is_told_with_what_it_said(tmp_path: Path) -> None:
    place: Any = SimpleNamespace(stack=SimpleNamespace(data=SimpleNamespace(path=tmp_path)))

    listener = latency._child(place, "listener")

    with pytest.raises(NotProven, match=r"the listener ended: .*not enough values"):
        await latency._until_it_listens(listener)


def test_ctrl_c_at_the_terminal_is_not_for_a_measurer(tmp_path: Path) -> None:
    place: Any = SimpleNamespace(stack=SimpleNamespace(data=SimpleNamespace(path=tmp_path)))

    measurer = latency._child(place, "listener", "127.0.0.1:1", "heard.txt")

    try:
        assert isinstance(measurer, Child), "it ends when this process does"
        assert os.getsid(measurer.pid) == measurer.pid
    finally:
        measurer.kill()
