"""Where a running platform is: by the PAVANE_* variables, or else by what its data folder says."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

from infra.addresses import KAFKA, database_variable
from infra.errors import InfraError, SettingWrong
from infra.stack import KEYS_DATABASE
from pavane.given import DESK_FILE, JWKS, LOCAL_GATEWAY
from streams.kit.run import services


class NothingRuns(InfraError):
    """Neither the environment nor the data folder names a platform."""

    def __init__(self, data: Path) -> None:
        super().__init__(
            f"Nothing runs on the folder {data}, and {KAFKA} is not set. Start something with 'make run', 'pavane run' "
            "or 'pavane up', choose its folder with DATA=, or name servers of your own with the PAVANE_* variables."
        )


def environment_of(data: Path) -> dict[str, str]:
    """This process's environment with the addresses in it. Raises `NothingRuns`."""
    if os.environ.get(KAFKA):
        return dict(os.environ)
    try:
        state: Mapping[str, Any] = json.loads((data / "stack.json").read_text())
    except (OSError, ValueError):
        raise NothingRuns(data) from None
    if not psutil.pid_exists(state["pid"]):
        raise NothingRuns(data)
    # A gateway that is started beside the others takes the same tokens at the same limits, and asks the same desk.
    local = {JWKS: os.environ.get(JWKS) or str(data.absolute() / "jwks.json"), **LOCAL_GATEWAY}
    if (data / DESK_FILE).exists():
        local["PAVANE_DESK"] = (data / DESK_FILE).read_text().strip()
    return {**os.environ, **local, **state["addresses"]}


def migrated(data: Path) -> dict[str, str]:
    """The URL of every database with tables of this code: the services', and that of the keys of persons."""
    keys = environment_of(data).get(database_variable(KEYS_DATABASE))
    return {**databases(data), **({KEYS_DATABASE: keys} if keys else {})}


def databases(data: Path) -> dict[str, str]:
    """The URL of every service's database. Raises `NothingRuns` and `SettingWrong`."""
    environment = environment_of(data)
    variables = {name: database_variable(name) for name in services()}
    if missing := [variable for variable in variables.values() if not environment.get(variable)]:
        raise SettingWrong(f"{', '.join(missing)} must name a PostgreSQL database (postgresql://...).")
    return {name: environment[variable] for name, variable in variables.items()}
