"""The tools of fault tests, each alone: points where a process dies, and what a proxy replaces."""

import os
import signal
import subprocess
import sys
from subprocess import PIPE

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.kit.faultpoints import POINTS, VARIABLE
from tests.faults.proxy import LENGTH, Replacement

REACH_THRICE = """
from streams.kit.faultpoints import reached
for number in range(3):
    print(number, flush=True)
    reached("after-commit")
"""


def ran(setting: str | None) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != VARIABLE}
    given = environment if setting is None else {**environment, VARIABLE: setting}
    return subprocess.run([sys.executable, "-c", REACH_THRICE], env=given, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("setting", [None, "", "before-commit:1", "after-commit:4"])
def test_a_process_lives_when_no_point_is_set_or_the_one_that_is_set_is_not_reached(setting: str | None) -> None:
    assert (ran(setting).returncode, ran(setting).stdout) == (0, "0\n1\n2\n")


def test_a_process_dies_when_its_point_is_reached_for_the_nth_time() -> None:
    died = ran("after-commit:2")
    assert (died.returncode, died.stdout) == (-signal.SIGKILL, "0\n1\n")
    assert "fault point after-commit is reached" in died.stderr


def test_a_process_freezes_when_its_point_is_reached_for_the_nth_time_and_goes_on_when_it_is_woken_up() -> None:
    command = [sys.executable, "-c", REACH_THRICE]
    environment = {**os.environ, VARIABLE: "after-commit:2:freeze"}
    with subprocess.Popen(command, env=environment, stdout=PIPE, stderr=PIPE, text=True) as process:
        try:
            _, status = os.waitpid(process.pid, os.WUNTRACED)
            assert os.WIFSTOPPED(status) and os.WSTOPSIG(status) == signal.SIGSTOP
            process.send_signal(signal.SIGCONT)
            said, told = process.communicate(timeout=60)
        finally:
            process.kill()
    assert (process.returncode, said) == (0, "0\n1\n2\n")
    assert told == "fault point after-commit is reached, the process freezes\n"


@pytest.mark.parametrize(
    "setting",
    ["somewhere:1", "after-commit", "after-commit:0", "after-commit:x", "after-commit:1:x", "after-commit:1:freeze:x"],
)
def test_a_wrong_point_names_the_variable_and_all_points(setting: str) -> None:
    wrong = ran(setting)
    assert wrong.returncode == 1
    assert VARIABLE in wrong.stderr and all(point in wrong.stderr for point in POINTS)


OLD, NEW = b"aabcd", b"WXYZ!"
messages = st.lists(st.lists(st.sampled_from([b"a", b"ab", b"abcd", b"x", OLD]), max_size=9).map(b"".join), max_size=9)


def framed(message: bytes) -> bytes:
    return LENGTH.pack(len(message)) + message


@given(messages, st.data())
def test_an_address_is_replaced_in_whatever_chunks_it_comes_and_no_message_waits_for_the_next(
    sent: list[bytes], data: st.DataObject
) -> None:
    stream = b"".join(map(framed, sent))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    replace, passed, seen = Replacement(OLD, NEW), b"", 0
    for begin, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        passed += replace(stream[begin:end])
        while seen < len(sent) and len(b"".join(map(framed, sent[: seen + 1]))) <= end:
            seen += 1
        assert passed == b"".join(framed(message.replace(OLD, NEW)) for message in sent[:seen])
    assert seen == len(sent)
