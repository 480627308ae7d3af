"""One stack a folder; a dead one is no obstacle; what cannot work is said before anything starts."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from infra import datafolder
from infra.datafolder import DataFolder
from infra.errors import DataFolderInUse, DataFolderNotWritable, DiskFull, NotADataFolder
from infra.stack import Stack
from pavane.bench.ground import leave_empty

HOLDER = """
import os, sys, time
from pathlib import Path
from infra.datafolder import DataFolder
from infra.processes import Child
folder = DataFolder(Path(sys.argv[1]))
folder.hold()
child = Child("sleeper", ["/bin/sleep", "600"], {}, Path(sys.argv[1]) / "log")
folder.note_running({}, {"sleeper": child.pid})
print(os.getpid(), child.pid, flush=True)
time.sleep(600)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[DataFolder]:
    folder = DataFolder(tmp_path / "data")
    yield folder
    folder.release()


def test_a_second_stack_is_told_who_holds_the_folder(folder: DataFolder, launch: Callable[..., Any]) -> None:
    holder = launch(HOLDER, str(folder.path))

    with pytest.raises(DataFolderInUse, match=rf"pid {holder.line.split()[0]}\).*DATA="):
        folder.hold()


def test_a_stale_lock_is_no_obstacle(
    folder: DataFolder, launch: Callable[..., Any], alive: Callable[[int], bool]
) -> None:
    holder = launch(HOLDER, str(folder.path))
    child = int(holder.line.split()[1])
    holder.sigkill()

    folder.hold()

    assert not alive(child), "what the dead one left is waited for"


def test_what_a_dead_stack_left_running_is_named(
    folder: DataFolder, launch: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    # As on a system where nothing ended the children: a process of ours stands for one that was left.
    folder.hold()
    folder.note_running({}, {"left": os.getpid()})
    left = (folder.path / "stack.json").read_text()
    folder.release()
    (folder.path / "stack.json").write_text(left)
    monkeypatch.setattr(datafolder, "LEFTOVER_SECONDS", 0.1)

    with pytest.raises(DataFolderInUse, match=str(os.getpid())):
        folder.hold()


def test_a_number_given_to_another_process_since_is_not_taken_for_a_leftover(folder: DataFolder) -> None:
    folder.path.mkdir()
    (folder.path / "pavane.lock").touch()
    reused = {"pid": 1, "addresses": {}, "processes": {"kafka-1": {"pid": os.getpid(), "started": 1.0}}}
    (folder.path / "stack.json").write_text(json.dumps(reused))

    folder.hold()


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(DataFolderNotWritable, match="DATA="):
        DataFolder(tmp_path / "file" / "data").hold()


def test_a_full_disk_is_said_before_anything_starts(folder: DataFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datafolder, "NEEDED_BYTES", 10**18)

    with pytest.raises(DiskFull, match="Make room"):
        folder.hold()

    monkeypatch.undo()
    folder.hold()


def test_passwords_stay_the_same_and_private(folder: DataFolder) -> None:
    folder.hold()
    first = folder.passwords(["orders", "billing"])

    assert first["orders"] != first["billing"]
    assert DataFolder(folder.path).passwords(["orders", "timeline"])["orders"] == first["orders"]
    assert stat.S_IMODE((folder.path / "secrets.json").stat().st_mode) == 0o600


def test_a_released_folder_says_that_nothing_runs(folder: DataFolder) -> None:
    folder.hold()
    folder.note_running({"PAVANE_KAFKA": "127.0.0.1:1"}, {})
    state = folder.path / "stack.json"
    assert stat.S_IMODE(state.stat().st_mode) == 0o600

    folder.release()

    assert not state.exists()


def test_a_folder_with_something_else_in_it_is_left_alone(folder: DataFolder) -> None:
    folder.path.mkdir()
    (folder.path / "letters.txt").write_text("dear Ada")

    with pytest.raises(NotADataFolder, match="is no data folder of Pavane"):
        folder.hold()

    assert [each.name for each in folder.path.iterdir()] == ["letters.txt"]


def test_a_folder_that_is_held_afresh_is_empty(
    folder: DataFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.hold()
    folder.passwords(["orders"])
    (folder.path / "kafka-1" / "log").mkdir(parents=True)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "letters.txt").touch()
    (folder.path / "link").symlink_to(elsewhere)

    folder.release()
    monkeypatch.setattr(datafolder, "NEEDED_BYTES", 10**18)
    with pytest.raises(DiskFull):
        folder.hold(afresh=True)

    assert [each.name for each in folder.path.iterdir()] == ["pavane.lock"]
    assert (elsewhere / "letters.txt").exists()


@pytest.mark.parametrize("left", ["letters.txt", "pavane.lock"])
async def test_a_stack_that_begins_afresh_removes_nothing_of_others(folder: DataFolder, left: str) -> None:
    """Neither what is no data folder, nor what somebody runs on."""
    folder.path.mkdir()
    (folder.path / left).touch()
    if left == "pavane.lock":
        folder.hold()
        (folder.path / "kafka-1").mkdir()
    before = sorted(folder.path.iterdir())

    with pytest.raises((NotADataFolder, DataFolderInUse)):
        await Stack(folder.path, environment={}, afresh=True).start()
    leave_empty(folder.path)

    assert sorted(folder.path.iterdir()) == before
