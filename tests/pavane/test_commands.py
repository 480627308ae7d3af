"""The command from outside: quick help, clear errors with their exit codes, and no stack trace."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

UNREACHABLE = "127.0.0.1:1"


def pavane(*words: str, **settings: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PAVANE_")}
    return subprocess.run(
        [sys.executable, "-m", "pavane.main", *words],
        env={**environment, **settings},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_help_names_every_command_and_imports_no_server_library() -> None:
    listed = (
        "import sys, pavane.main; print([m for m in sys.modules if m.split('.')[0] in ('confluent_kafka', 'rich')])"
    )

    assert {"up", "run", "demo", "migrate", "audit", "topics", "schemas"} <= set(pavane("--help").stdout.split())
    assert subprocess.check_output([sys.executable, "-c", listed], text=True).strip() == "[]"


@pytest.mark.parametrize(
    ("words", "settings", "code", "said"),
    [
        (["audit"], {}, 2, "Nothing runs on the folder"),
        (["topics", "plan"], {}, 1, "Nothing runs on the folder"),
        (["schemas", "push"], {"PAVANE_KAFKA": UNREACHABLE}, 1, "Is PAVANE_REGISTRY right?"),
        (["migrate"], {"PAVANE_KAFKA": UNREACHABLE}, 1, "PAVANE_DATABASE_BILLING"),
        (["run", "nonsense"], {}, 1, "there is no service 'nonsense'; there are billing"),
        (["demo"], {"ORDERS": "0"}, 2, "a number of orders from 1 on, or 'all'"),
        (["demo"], {"SEED": "x"}, 2, "SEED"),
    ],
)
def test_what_is_wrong_is_one_message_and_an_exit_code(
    tmp_path: Path, words: list[str], settings: dict[str, str], code: int, said: str
) -> None:
    done = pavane(*words, DATA=str(tmp_path), **settings)

    assert (done.returncode, "Traceback" in done.stderr) == (code, False), done.stderr
    assert said in done.stderr


def test_the_schemas_are_in_order_and_listed() -> None:
    assert "schemas are in order" in pavane("schemas", "check").stdout
    assert "  PaymentCaptured v1  tenant, order_id, amount, reference" in pavane("schemas", "list").stdout


COMMAND = textwrap.dedent("""
    import asyncio, sys, time, typer
    from pavane import console

    async def work():
        try:
            print("begun", flush=True)
            {body}
        finally:
            print("cleared away", flush=True)
        return 0

    typer.run(lambda: console.run(work()))
""")


def interrupted(body: str, *numbers: signal.Signals, under: tuple[str, ...] = ()) -> tuple[int, str, str]:
    """Run a command with that body, interrupt it once it has begun; its exit code and what it said."""
    # Whoever runs these tests may do it under nohup.
    first = "" if under else "import signal; signal.signal(signal.SIGHUP, signal.SIG_DFL)"
    words = [*under, sys.executable, "-c", first + COMMAND.format(body=body)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    for number in numbers:
        process.send_signal(number)
    said, complained = process.communicate(timeout=20)
    return process.returncode, said, complained


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_command_clears_away_and_leaves_no_trace(number: signal.Signals) -> None:
    assert interrupted("await asyncio.sleep(60)", number) == (130, "cleared away\n", "\nStopping everything.\n")


def test_a_command_under_nohup_goes_on_when_its_terminal_is_gone() -> None:
    # Two that count end it at once, without clearing away.
    code, said, complained = interrupted("await asyncio.sleep(60)", signal.SIGHUP, signal.SIGTERM, under=("nohup",))

    assert (code, said, complained.count("Stopping")) == (130, "cleared away\n", 1)


def test_an_interrupted_command_does_not_wait_for_its_threads() -> None:
    code, said, _ = interrupted("await asyncio.to_thread(time.sleep, 60)", signal.SIGINT)

    assert (code, said) == (130, "cleared away\n")
