"""One service as a process whose clock is wrong by as many seconds as a file says; the file may change at any time.

    python -m tests.faults.wrong_clock SERVICE      # and WRONG_CLOCK names the file
"""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

from streams.kit.run import main

VARIABLE = "WRONG_CLOCK"


def now() -> datetime:
    return datetime.now(UTC) + timedelta(seconds=float(Path(os.environ[VARIABLE]).read_text()))


def set_clock(file: Path, wrong_by_seconds: float) -> None:
    """From now on the clock is wrong by so much; nobody reads half a number."""
    whole = file.with_suffix(".new")
    whole.write_text(str(wrong_by_seconds))
    whole.replace(file)


if __name__ == "__main__":
    main(now)
