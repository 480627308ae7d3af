"""The command `audit`: the report, and what its exit code says."""

import asyncio
from pathlib import Path

import psycopg
import typer

from infra.errors import InfraError
from pavane.running import environment_of

CLEAN, VIOLATED, COULD_NOT_ASK = 0, 1, 2


class NotAudited(InfraError):
    """A server that must be asked did not answer."""


def audit(data: Path, as_json: bool) -> int:
    """Print the report on what runs there. Raises an `InfraError` or a `PavaneError` when it could not be made."""
    from confluent_kafka import KafkaException

    from pavane.audit import audit as prove
    from pavane.audit.report import table
    from pavane.lines import a_console

    try:
        report = asyncio.run(prove(environment_of(data)))
    except (KafkaException, psycopg.OperationalError, OSError) as error:
        raise NotAudited(f"Not everything could be asked: {str(error).strip() or type(error).__name__}") from None
    if as_json:
        typer.echo(report.as_json())
    else:
        a_console().print(table(report))
    return CLEAN if report.clean else VIOLATED
