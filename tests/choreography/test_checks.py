"""Each static check, shown by a small wrong choreography; the real one has nothing wrong."""

from collections.abc import Iterator
from datetime import datetime
from types import FunctionType, ModuleType
from typing import Any

import pytest
from msgspec.structs import replace

from choreography.checks import check
from choreography.declared import Dance, table
from contracts.views import services
from streams.kit.events import Answer, Due, Effect, Fact, Heard, State
from streams.kit.language import Language
from streams.kit.service import Said, Service


class Ask(Heard, topic="shop.requests"):
    """Somebody wants something."""

    about: str


class Saying(Fact):
    """What all facts here are about."""

    about: str

    @property
    def key(self) -> str:
        return self.about


class Begun(Saying):
    """The shop begins."""


class Ended(Saying):
    """The shop ends it."""


class Done(Saying):
    """The depot did its part."""


class Failed(Saying, failure=True):
    """The depot cannot."""


class Undone(Saying, undoes=(Done,)):
    """The depot took it back."""


class Job(State, table="jobs", key="about"):
    """One wish, and until when it is waited for."""

    about: str
    partition: int = -1
    due_at: datetime | None = None


class Do(Effect):
    """Do it, in the world."""

    about: str

    @property
    def key(self) -> str:
        return self.about


class DoAnyhow(Effect):
    """Do it, under no key."""

    about: str


class Yes(Answer):
    """It is done."""


class HeardBegun(Heard, topic="shop"):
    about: str


class HeardEnded(Heard, topic="shop"):
    about: str


class HeardDone(Heard, topic="depot"):
    about: str


class HeardFailed(Heard, topic="depot"):
    about: str


for view in (HeardBegun, HeardEnded, HeardDone, HeardFailed):
    view.__name__ = view.__name__.removeprefix("Heard")


def ended(job: Job, fact: Ended) -> Job:
    return replace(job, due_at=None)


def stays(job: Job, fact: Any) -> Job:
    return job


def begin(job: Job, asked: Ask) -> Iterator[Said]:
    yield Begun(about=asked.about)


def overdue(job: Job, due: Due) -> Iterator[Said]:
    yield Ended(about=job.about)


def end(job: Job, heard: Any) -> Iterator[Said]:
    yield Ended(about=job.about)


def do(job: Job, begun: HeardBegun) -> Iterator[Said]:
    yield Do(about=job.about)


def note(job: Job, answer: Yes) -> Iterator[Said]:
    yield Done(about=job.about)
    yield Failed(about=job.about)


def undo(job: Job, heard: HeardEnded) -> Iterator[Said]:
    yield Undone(about=job.about)


def world() -> Any:
    raise AssertionError("nobody is asked")


def shop(*, hears: tuple[Any, ...] = (HeardFailed, HeardDone), timed: bool = True, fold: Any = ended) -> Service:
    """Begins what the depot is to do, and ends it."""
    service = Service("shop", states=[Job], says=[Begun, Ended])
    service.hears(Ask)(begin)
    for heard in hears:
        service.hears(heard)(end)
    if timed:
        service.due(overdue)
    service.evolves(Begun)(stays)
    service.evolves(Ended)(fold)
    return service


def depot(*, undoes: bool = True, says: tuple[type[Fact], ...] = (Done, Failed, Undone), asks: Any = Do) -> Service:
    """Does it, or not, and takes it back."""
    service = Service("depot", states=[Job], says=says, world=world)
    service.hears(HeardBegun)(do if asks is Do else do_anyhow)
    service.answers(asks)(note)
    if undoes:
        service.hears(HeardEnded)(undo)
    for fact in says:
        service.evolves(fact)(stays)
    return service


def do_anyhow(job: Job, begun: HeardBegun) -> Iterator[Said]:
    yield DoAnyhow(about=job.about)


class Listener(State, table="listeners", key="about"):
    """Looks on."""

    about: str


class HeardUndone(Heard, topic="depot"):
    about: str


HeardUndone.__name__ = "Undone"


def looked(row: Listener, fact: HeardUndone) -> Listener:
    return row


def audience() -> Service:
    """Hears what nobody reacts to."""
    service = Service("audience", states=[Listener])
    service.evolves(HeardUndone)(looked)
    return service


def found(*dancers: Service) -> list[str]:
    return [str(finding) for finding in check(Dance(dancers))]


def test_the_small_dance_has_nothing_wrong() -> None:
    assert found(shop(), depot(), audience()) == []


def test_the_real_dance_has_nothing_wrong() -> None:
    assert check(Dance(services()), Language.load()) == []


def test_what_follows_is_read_from_the_code_of_reactions_and_of_what_they_call() -> None:
    dance = Dance(services())

    told = {(each.service, each.heard.__name__): {fact.__name__ for fact in each.says} for each in dance.reactions}
    assert told["orders", "PaymentDeclined"] == {"OrderCancelled"}
    assert told["billing", "OrderCancelled"] == {"InvoiceCancelled", "PaymentVoided", "PaymentRefunded"}
    assert "asks BookShipment" in table(dance)


def test_a_fact_that_nobody_hears() -> None:
    assert any("nobody hears Undone" in each for each in found(shop(), depot()))


def test_a_fact_that_is_said_and_not_declared() -> None:
    [wrong, *_] = found(shop(), depot(says=(Done, Failed)), audience())

    assert "depot says Undone here, which it does not declare. Add it to says=[...] of Service('depot')." in wrong
    assert "test_checks.py:" in wrong


class HeardLost(Heard, topic="depot"):
    about: str


HeardLost.__name__ = "Lost"


def test_a_reaction_to_a_fact_that_nobody_says() -> None:
    [wrong] = found(shop(hears=(HeardFailed, HeardDone, HeardLost)), depot(), audience())

    assert "shop reacts to Lost, which nobody says on depot" in wrong
    assert "test_checks.py:" in wrong


def test_a_failure_without_a_reaction() -> None:
    assert any("Failed says that an order cannot go on" in each for each in found(shop(hears=(HeardDone,)), depot()))


def test_a_forward_step_that_nothing_undoes_when_something_failed() -> None:
    wrong = found(shop(), depot(undoes=False), audience())

    assert any("when Failed is said, nothing undoes Done" in each for each in wrong)


def test_a_forward_step_without_an_undoing_fact() -> None:
    wrong = found(shop(), depot(undoes=False, says=(Done, Failed)))

    assert any("Done is a step that binds somebody, and no fact undoes it" in each for each in wrong)


def test_a_wait_without_a_deadline() -> None:
    [wrong] = found(shop(timed=False), depot(), audience())

    assert "shop says Begun and then waits for others, without a deadline" in wrong


def again(about: str) -> Iterator[Said]:
    yield Begun(about=about)


#: The same in another module.
rules = ModuleType("tests.rules")
vars(rules).update(Begun=Begun, Opened=Begun, repeated=FunctionType(again.__code__, vars(rules)))
imported = rules.repeated
TABLE: dict[str, Any] = {"again": (again,)}


def begin_again(job: Job, failed: HeardFailed) -> Iterator[Said]:
    yield Begun(about=job.about)


def begin_again_by_what_is_imported(job: Job, failed: HeardFailed) -> Iterator[Said]:
    yield from imported(job.about)


def begin_again_by_a_module(job: Job, failed: HeardFailed) -> Iterator[Said]:
    yield from rules.repeated(job.about)


def begin_again_by_a_fact_of_a_module(job: Job, failed: HeardFailed) -> Iterator[Said]:
    yield from [rules.Opened(about=about) for about in (job.about,)]


def begin_again_by_a_table(job: Job, failed: HeardFailed) -> Iterator[Said]:
    yield from TABLE["again"][0](job.about)


WAYS = (
    begin_again,
    begin_again_by_what_is_imported,
    begin_again_by_a_module,
    begin_again_by_a_fact_of_a_module,
    begin_again_by_a_table,
)


@pytest.mark.parametrize("decide", WAYS, ids=lambda way: way.__name__)
def test_a_cycle_without_an_end(decide: Any) -> None:
    circling = shop(hears=(HeardDone,))
    circling.hears(HeardFailed)(decide)

    assert any("Begun may lead to Begun again" in each for each in found(circling, depot(), audience()))


class Elsewhere(Fact):
    """About something else."""

    place: str

    @property
    def key(self) -> str:
        return self.place


def stray(job: Job, begun: HeardBegun) -> Iterator[Said]:
    yield Elsewhere(place="attic")


def test_a_key_that_would_leave_its_partition() -> None:
    strayed = Service("depot", states=[Job], says=[Elsewhere])
    strayed.hears(HeardBegun)(stray)
    strayed.evolves(Elsewhere)(stays)

    assert any(
        "Elsewhere is keyed by place, but Begun, from which it comes, by about" in each
        for each in found(shop(hears=()), strayed)
    )


def test_two_writers_of_a_topic() -> None:
    assert any("topic shop: has two writers" in each for each in found(shop(), shop(), depot()))


def test_an_effect_without_an_idempotency_key() -> None:
    assert any("DoAnyhow has no idempotency key" in each for each in found(shop(), depot(asks=DoAnyhow)))


def test_an_end_that_leaves_the_deadline_standing() -> None:
    [wrong] = found(shop(fold=stays), depot(), audience())

    assert "Ended ends what shop waits for, and its fold leaves the deadline standing" in wrong


def test_a_request_that_the_public_language_does_not_have() -> None:
    wrong = check(Dance([shop(), depot(), audience()]), Language.load())

    assert any("reacts to the request Ask, and schemas/shop.requests has none" in str(each) for each in wrong)


@pytest.mark.parametrize("name", ["orders", "inventory", "billing", "shipping"])
def test_every_reaction_of_a_service_is_found(name: str) -> None:
    [service] = [each for each in services() if each.name == name]

    assert {each.heard for each in Dance([service]).reactions} == set(service.reactions)
