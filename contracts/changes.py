"""What a later version of an event may not do although Avro would read it: it would be taken for something else.

Each yields what happened and what to do.
"""

from collections.abc import Iterator
from typing import Any

from contracts.places import Place, places
from contracts.wellformed import PERSONAL

Told = tuple[str, str]


def misleading(older: dict[str, Any], newer: dict[str, Any]) -> Iterator[Told]:
    """Fields that both versions have, and that say something else in the newer one."""
    before = places(older)
    after = places(newer, before)
    for path, was in before.items():
        now = after.get(path)
        if now is None:
            continue
        if len(both := [name for name in _names(now) if f"{was.record}.{name}" in before]) > 1:
            yield (
                f"the field {path} stands for two, {' and '.join(both)}: consumers cannot tell which of them to read",
                "An alias is the name of a field that it replaces: keep one.",
            )
        if was.meanings != now.meanings:
            yield (
                f"the field {path} meant {_listed(was.meanings)} and means {_listed(now.meanings)}",
                "Give what means something else another name.",
            )
        if gone := [symbol for symbol in was.symbols if symbol not in now.symbols]:
            yield (
                f"the enum of {path} has lost {', '.join(gone)}: records that say so are in the log, and would be read "
                f"as its default",
                "Keep the symbol, and say in the doc that nobody says it any more.",
            )
        if was.field.get(PERSONAL) and not now.field.get(PERSONAL):
            yield (
                f"the field {path} is not marked as personal any more: what older records say in it is not erased",
                'Keep the mark "personal": true.',
            )
        defaults = [each.field["default"] for each in (was, now) if "default" in each.field]
        if len(defaults) == 2 and defaults[0] != defaults[1]:
            yield (
                f"the default of {path} was {defaults[0]!r} and is {defaults[1]!r}: what older records did not say "
                f"would be read otherwise",
                "Keep the default, or give what means something else another name.",
            )
        if lost := [name for name in _names(was) if name not in _names(now)]:
            yield (
                f"the field {path} is no longer known as {', '.join(lost)}, under which older records say it",
                "Keep every alias that it ever had.",
            )


def renamed(older: dict[str, Any], newer: dict[str, Any]) -> Iterator[Told]:
    """A field that went and one of the same meaning that came in one step: a rename, unless an alias says which."""
    before = places(older)
    after = places(newer, before)
    gone = [place for path, place in before.items() if path not in after]
    for path, new in after.items():
        if path not in before and (old := next((each for each in gone if _alike(each, new)), None)):
            yield (
                f"the field {old.path} has gone and {path}, which is alike, has come: if that is a rename, new "
                f"consumers lose what was said under the old name",
                f'Write "aliases": ["{old.field["name"]}"] at the new one. If not, let it come a version later.',
            )


def _alike(old: Place, new: Place) -> bool:
    return old.record == new.record and _shape(old) == _shape(new)


def _names(place: Place) -> list[str]:
    return [place.field["name"], *place.field.get("aliases", ())]


def _shape(place: Place) -> tuple[set[str], set[str], bool]:
    return place.meanings, set(place.symbols), place.is_record


def _listed(meanings: set[str]) -> str:
    return " or ".join(sorted(meanings)) or "record or enum"
