"""An audit that goes on from a checkpoint says what one says that reads everything, and finds what is broken since."""

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

import pytest

from pavane.audit import checkpoint
from pavane.audit.checkpoint import Checkpoint, Mark
from pavane.audit.errors import EvidenceMissing
from pavane.audit.incremental import go_on
from pavane.audit.report import Verdict
from streams.kit.log import Record
from streams.kit.service import Evolution
from streams.timeline.events import OrderConfirmed
from streams.timeline.model import Story
from streams.timeline.service import timeline
from tests.pavane.audited import Look, Where
from tests.pavane.finished import Run, a_shop, sell_every_kind
from tests.pavane.mutation import Mutation
from tests.pavane.test_audit_mutations import MUTATIONS

CODE = "of this test"


class Read:
    """The log of a look, as it is in memory."""

    def __init__(self, look: Look) -> None:
        self.ends: Mapping[Where, int] = look.ends
        self._look = look

    def records(self, starts: Mapping[Where, int], ends: Mapping[Where, int]) -> Sequence[Record]:
        # What a mutation has planted behind the ends is read with the rest.
        everything = {where: len(records) for where, records in self._look.log.items()}
        return self._look.between(starts, everything if ends is self.ends else ends)

    def check(self, marks: Collection[Mark], kept: Path) -> None:
        """It is the same log."""


def audited(look: Look, kept: Path) -> Mapping[str, Verdict]:
    """What `pavane audit --checkpoint` says, by name."""
    verdicts, _ = go_on(look.evidence(), Read(look), kept, CODE)
    return {verdict.name: verdict for verdict in verdicts}


def known(kept: Path) -> Checkpoint:
    found = checkpoint.read(kept, CODE)
    assert found is not None
    return found


async def test_whatever_came_since_the_verdicts_are_those_of_an_audit_that_reads_everything(tmp_path: Path):
    shop, kept = await a_shop(0), tmp_path / "kept"
    for orders in (3, 0, 2):
        await sell_every_kind(shop, orders)
        look = shop.look()
        assert audited(look, kept) == look.verdicts()
        assert sum(mark.next for mark in known(kept).marks) == sum(look.ends.values())


async def test_what_is_on_its_way_is_read_again_until_every_snapshot_includes_it(tmp_path: Path):
    shop, kept = await a_shop(1), tmp_path / "kept"
    shop.place("lamp", 2)
    services = ("orders", "inventory", "billing", "shipping")
    await shop.settle(*services)
    look = shop.look()

    assert audited(look, kept) == look.verdicts()
    unread = {mark.where: look.ends[mark.where] - mark.next for mark in known(kept).marks}
    assert sum(unread.values()) > 0, "the timeline has heard nothing of the order"
    assert {topic for (topic, _), records in unread.items() if records} <= set(services)
    await shop.settle()
    look = shop.look()
    assert audited(look, kept) == look.verdicts()
    assert sum(mark.next for mark in known(kept).marks) == sum(look.ends.values())


async def test_what_a_view_has_parked_and_what_came_after_it_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    shop, kept = await a_shop(1), tmp_path / "kept"
    first = shop.place("lamp")

    def fail(story: Story, fact: OrderConfirmed) -> Story:
        if fact.order_id == first:
            raise ValueError("a fold that fails")
        return story

    with monkeypatch.context() as broken:
        failing = Evolution(OrderConfirmed, fail, Story, None)
        broken.setitem(timeline.evolutions, OrderConfirmed, [failing, *timeline.evolutions[OrderConfirmed]])
        await shop.settle()
        await sell_every_kind(shop)
    look = shop.look()
    [parked] = [each for each in look.seen["timeline"].parked if each.reason == "ValueError"]
    settled = checkpoint.settled_ends(look.evidence().snapshots, look.ends)

    assert settled[parked.topic, parked.partition] == parked.offset < look.ends[parked.topic, parked.partition] - 1
    verdicts = audited(look, kept)
    assert verdicts == look.verdicts()
    assert {name: verdict.violations for name, verdict in verdicts.items() if not verdict.clean} == {}
    assert audited(shop.look(), kept) == look.verdicts(), "the next one goes on from there"


@pytest.fixture(scope="module")
async def gone_on(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, Look]:
    """A checkpoint, and a look at what came since."""
    shop, kept = await a_shop(0), tmp_path_factory.mktemp("gone-on") / "kept"
    audited(shop.look(), kept)
    await sell_every_kind(shop)
    return kept.read_bytes(), shop.look()


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
async def test_what_is_broken_after_the_checkpoint_is_named(
    mutation: Mutation, gone_on: tuple[bytes, Look], tmp_path: Path
):
    kept = tmp_path / "kept"
    kept.write_bytes(gone_on[0])
    read = {mark.where: mark.next for mark in known(kept).marks}
    run = Run(gone_on[1])
    before = run.look.between({}, read)
    mutation.plant(run)

    said = "\n".join(audited(run.look, kept)[mutation.verdict].violations)

    assert run.look.between({}, read) == before, "it is not broken in what is not read again"
    assert mutation.words.format_map(vars(run)) in said, f"{mutation.verdict} says: {said or 'nothing'}"


@pytest.mark.parametrize(
    "breaks", [lambda run: run.charge(run.confirmed, captures=2), lambda run: run.look.wipe("billing")]
)
async def test_an_audit_that_found_something_broken_leaves_the_checkpoint_as_it_was(
    breaks: Callable[[Run], None], tmp_path: Path
):
    shop, kept = await a_shop(), tmp_path / "kept"
    audited(shop.look(), kept)
    before = kept.read_bytes()
    run = Run(shop.look())
    breaks(run)

    assert any(not verdict.clean for verdict in audited(run.look, kept).values())
    assert kept.read_bytes() == before


async def test_a_database_that_knows_less_than_before_is_audited_from_the_start(tmp_path: Path):
    shop, kept = await a_shop(), tmp_path / "kept"
    older = shop.look()
    await sell_every_kind(shop)
    audited(shop.look(), kept)
    look = shop.look()
    look.seen["billing"] = older.seen["billing"]

    assert checkpoint.is_behind(
        look.evidence().snapshots, checkpoint.settled_ends(look.evidence().snapshots, look.ends), known(kept)
    )
    assert audited(look, kept)["rows-rebuilt"].clean, "its rows are the fold of what it knows"


async def test_nothing_is_kept_of_databases_that_lag_behind_the_log_that_was_read(tmp_path: Path):
    """A speaker's URL names two hosts, and one of them is a standby."""
    shop, kept = await a_shop(1), tmp_path / "kept"
    lagging = shop.look_at_databases(["billing"])
    await sell_every_kind(shop)
    look = shop.look()
    look.seen |= lagging

    assert all(verdict.clean for verdict in audited(look, kept).values())
    assert not kept.exists()


async def test_what_was_told_of_strangers_is_told_again(tmp_path: Path):
    shop, kept = await a_shop(1), tmp_path / "kept"
    shop.log["orders.dead-letters", 0] = [Record("orders.dead-letters", 0, 0, 0, b"k", b"v", ())]

    for _ in range(2):
        look = shop.look()
        verdicts = audited(look, kept)
        assert verdicts == look.verdicts()
        assert any("it is no dead letter of ours" in note for note in verdicts["sequences"].notes)


async def test_other_code_begins_anew_and_what_is_no_checkpoint_is_refused(tmp_path: Path):
    kept = tmp_path / "kept"
    audited((await a_shop()).look(), kept)

    assert checkpoint.read(kept, "other code") is None
    earlier = tmp_path / "earlier"
    earlier.write_bytes(b"pavane-audit-1\nof another form")
    assert checkpoint.read(earlier, CODE) is None
    assert checkpoint.read(tmp_path / "nothing", CODE) is None
    for broken in (b"", b"notes", kept.read_bytes()[:-9]):
        kept.write_bytes(broken)
        with pytest.raises(EvidenceMissing, match="is no checkpoint of an audit"):
            checkpoint.read(kept, CODE)


def test_a_checkpoint_is_not_written_into_that_of_another_audit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    kept = tmp_path / "kept"
    sync = os.fsync

    def meanwhile(file: int) -> None:
        """Another audit writes the same checkpoint, from its first byte to its last."""
        monkeypatch.setattr(os, "fsync", sync)
        checkpoint.write(kept, b"longer than the first")
        sync(file)

    monkeypatch.setattr(os, "fsync", meanwhile)

    checkpoint.write(kept, b"the first")

    assert kept.read_bytes() == b"the first"
    assert [each.name for each in tmp_path.iterdir()] == ["kept"]


def test_a_checkpoint_that_cannot_be_written_leaves_nothing_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(file: int) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "fsync", full)

    with pytest.raises(EvidenceMissing, match="No space left on device"):
        checkpoint.write(tmp_path / "kept", b"the first")

    assert list(tmp_path.iterdir()) == []
