"""The environment is made once: it is taken up again after a failure, and not touched while nothing changes."""

import fcntl
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pavane import bootstrap


@pytest.fixture
def done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is done, in order, in a project in an empty folder; nothing is installed."""
    steps: list[str] = []
    lock, project = tmp_path / "requirements.lock", tmp_path / "pyproject.toml"
    lock.write_text("one==1 --hash=sha256:0\ntwo==2 --hash=sha256:1\n")
    project.write_text("[project]\n")
    venv = tmp_path / ".venv"
    for name, value in {"VENV": venv, "STAMP": venv / "pavane.json", "PYTHON": venv / "bin" / "python"}.items():
        monkeypatch.setattr(bootstrap, name, value)
    for name, value in {"LOCK": lock, "PROJECT": project}.items():
        monkeypatch.setattr(bootstrap, name, value)

    def make() -> None:
        steps.append("make")
        bootstrap.PYTHON.parent.mkdir(parents=True, exist_ok=True)
        bootstrap.PYTHON.touch()

    monkeypatch.setattr(bootstrap, "make", make)
    monkeypatch.setattr(bootstrap, "install", lambda packages: steps.append(f"install {packages}"))
    monkeypatch.setattr(bootstrap, "run", lambda *words: steps.append("project"))
    return steps


def test_an_empty_folder_gets_everything_and_the_next_start_does_nothing(done: list[str]) -> None:
    assert bootstrap.main() == 0
    assert done == ["make", "install 2", "project"]

    assert bootstrap.main() == 0
    assert done == ["make", "install 2", "project"]


def test_a_changed_lock_is_installed_into_the_same_environment(done: list[str]) -> None:
    bootstrap.main()
    bootstrap.LOCK.write_text("one==1.1 --hash=sha256:2\n")
    done.clear()

    assert bootstrap.main() == 0
    assert done == ["install 1", "project"]


def test_a_changed_project_is_linked_again_without_installing(done: list[str]) -> None:
    bootstrap.main()
    bootstrap.PROJECT.write_text("[project]\nname = 'x'\n")
    done.clear()

    assert bootstrap.main() == 0
    assert done == ["project"]


def test_an_environment_that_was_moved_here_is_made_anew(done: list[str]) -> None:
    bootstrap.main()
    bootstrap.STAMP.write_text(json.dumps({**bootstrap.state(), "venv": "/elsewhere/.venv"}))
    done.clear()

    assert bootstrap.main() == 0
    assert done == ["make", "install 2", "project"]


def test_an_environment_whose_python_is_gone_is_made_anew(done: list[str]) -> None:
    bootstrap.main()
    bootstrap.PYTHON.unlink()
    done.clear()

    assert bootstrap.main() == 0
    assert done == ["make", "install 2", "project"]


def test_of_two_at_once_the_second_waits_and_finds_everything_done(
    done: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    with Path(bootstrap.__file__).open() as first, ThreadPoolExecutor(1) as pool:
        fcntl.flock(first, fcntl.LOCK_EX)
        second = pool.submit(bootstrap.main)
        said = ""
        while "waiting for it" not in said:
            said += capfd.readouterr().out
        assert done == []
        assert bootstrap.built(bootstrap.state()) == 0
        fcntl.flock(first, fcntl.LOCK_UN)

        assert second.result(20) == 0
    assert done == ["make", "install 2", "project"]


def test_a_failed_installation_is_told_and_taken_up_again(
    done: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(packages: int) -> None:
        raise bootstrap.Failed("Not everything could be installed:\n    no network")

    with monkeypatch.context() as broken:
        broken.setattr(bootstrap, "install", fail)
        assert bootstrap.main() == 1
    assert "no network" in capsys.readouterr().err
    done.clear()

    assert bootstrap.main() == 0
    assert done == ["make", "install 2", "project"]


def test_a_python_without_venv_is_told_with_the_package_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)

    with pytest.raises(bootstrap.Failed, match="-venv; or name another Python with PYTHON="):
        bootstrap.make()


def test_progress_without_a_terminal_has_no_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    lines = [
        "Collecting one==1\n",
        "  Downloading one.whl\n",
        "Collecting two==2\n",
        "Installing collected packages: a\n",
    ]

    assert list(bootstrap.shown(iter(lines), 2)) == lines
    assert capsys.readouterr().out == "  unpacking\n"
