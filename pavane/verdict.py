"""The command `audit`: the report, and what its exit code says."""

from pathlib import Path

import typer

from infra.errors import InfraError
from pavane.running import environment_of
from streams.kit.errors import PavaneError

CLEAN, VIOLATED, COULD_NOT_ASK = 0, 1, 2


class NotAudited(InfraError):
    """The audit itself failed, so nothing is known."""


async def audit(data: Path, as_json: bool, checkpoint: Path | None) -> int:
    """Print the report on what runs there. Raises an `InfraError` or a `PavaneError` when there is none."""
    from pavane.audit import audit as prove
    from pavane.audit import table
    from pavane.lines import a_console

    environment = environment_of(data)
    try:
        with a_console().status("Reading databases, log and records"):
            report = await prove(environment, checkpoint)
    except (PavaneError, InfraError):
        raise
    except Exception as error:
        # A trace would end with exit code 1, which says that an invariant is broken.
        raise NotAudited(f"The audit itself failed: {error!r}. Nothing is known about the invariants.") from error
    if as_json:
        typer.echo(report.as_json())
    else:
        a_console().print(table(report))
    return CLEAN if report.clean else VIOLATED
