"""What becomes of one record: facts, a refusal, or a question that nobody answers. What was, and what would be."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from streams.kit.personal import Path
from streams.kit.protection import is_protected

NOTHING = "nothing"


class Personal(str):
    """A personal text, as a token or as a request in plain text has it: compared as what it is, and never printed."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "(personal)"

    __str__ = __repr__

    def __format__(self, _: str) -> str:
        return repr(self)


def personal(fields: Mapping[str, Any], paths: Iterable[Path]) -> dict[str, Any]:
    """The fields with the texts at these paths marked as personal."""
    marked = dict(fields)
    for name, *inner in paths:
        match marked.get(name):
            case str(text) if not inner:
                marked[name] = Personal(text)
            case dict(record) if inner:
                marked[name] = personal(record, [tuple(inner)])
    return marked


class Said(NamedTuple):
    """One fact in plain values."""

    name: str
    key: str
    fields: Mapping[str, Any]

    def __str__(self) -> str:
        return f"{self.name}({', '.join(f'{name}={value}' for name, value in self.fields.items())})"


class Outcome(NamedTuple):
    """`failed`: the name of the error, and its words where they are known. `asked`: an effect without an answer."""

    said: Sequence[Said] = ()
    failed: tuple[str, str] | None = None
    asked: str = ""

    @property
    def is_nothing(self) -> bool:
        return not (self.said or self.failed or self.asked)

    @property
    def names(self) -> str:
        """In short: what differences are grouped by."""
        if self.failed is not None:
            return f"dead letter ({self.failed[0]})"
        said = [fact.name for fact in self.said]
        return " and ".join([*said, f"ask {self.asked}"] if self.asked else said) or NOTHING

    def told(self) -> str:
        """In full."""
        if self.failed is not None:
            return ": ".join(filter(None, self.failed))
        return " and ".join(map(str, self.said)) or self.names

    def protected_as(self, was: "Outcome") -> "Outcome":
        """With the tokens of then where the text of now is plain: a request in plain text is read as it came, and the
        key that protected it then may be destroyed (docs/privacy.md)."""
        said = [
            one._replace(fields=_protected(one.fields, other.fields)) if one.name == other.name else one
            for one, other in zip(self.said, was.said, strict=False)
        ]
        return self._replace(said=[*said, *self.said[len(said) :]])

    def same_as(self, other: "Outcome") -> bool:
        """The words of an error may change."""
        if self.failed is not None or other.failed is not None:
            return self.failed is not None and other.failed is not None and self.failed[0] == other.failed[0]
        return self.asked == other.asked and list(self.said) == list(other.said)


def _protected(value: Any, was: Any) -> Any:
    if isinstance(value, Mapping) and isinstance(was, Mapping):
        return {name: _protected(each, was.get(name)) for name, each in value.items()}
    if isinstance(value, str) and isinstance(was, str) and is_protected(was) and not is_protected(value):
        return was
    return value


def reason(was: Outcome, would: Outcome) -> str:
    """Why the two are not the same, without what is particular to one order."""
    if would.asked:
        return f"would ask {would.asked}, of whose answer nothing is told (was: {was.names})"
    if was.names != would.names or was.failed is not None:
        return f"would be {would.names} instead of {was.names}"
    fields = sorted(
        {
            f"{one.name}.{name}"
            for one, other in zip(was.said, would.said, strict=True)
            for name in {*one.fields, *other.fields}
            if one.fields.get(name) != other.fields.get(name)
        }
    )
    return f"would say otherwise: {', '.join(fields) or 'the key'}"
