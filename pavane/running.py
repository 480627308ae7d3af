"""Where a running platform is: by the PAVANE_* variables, or else by what its data folder says."""

import json
import os
from pathlib import Path

from infra.addresses import KAFKA
from infra.errors import InfraError


class NothingRuns(InfraError):
    """Neither the environment nor the data folder names a platform."""

    def __init__(self, data: Path) -> None:
        super().__init__(
            f"No platform runs on {data}, and {KAFKA} is not set. Start one with 'make run' or 'pavane run', choose its "
            "folder with DATA=, or name external servers with the PAVANE_* variables ('pavane up' prints them)."
        )


def environment_of(data: Path) -> dict[str, str]:
    """This process's environment with the addresses in it. Raises `NothingRuns`."""
    if os.environ.get(KAFKA):
        return dict(os.environ)
    try:
        addresses: dict[str, str] = json.loads((data / "stack.json").read_text())["addresses"]
    except (OSError, ValueError, KeyError):
        raise NothingRuns(data) from None
    return {"PAVANE_JWKS": str(data.absolute() / "jwks.json"), **os.environ, **addresses}
