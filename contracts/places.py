"""Every field of an event at any depth, by the path that leads to it: `OrderPlaced.lines[].sku`."""

from collections.abc import Collection, Iterator
from typing import Any, NamedTuple

_NAMED = ("record", "enum", "fixed")


class Place(NamedTuple):
    """One field and where it stands. `kinds`: the types that its values may have, without null, lists and maps."""

    path: str
    field: dict[str, Any]
    kinds: tuple[Any, ...]

    @property
    def record(self) -> str:
        """Where the record stands that has the field."""
        return self.path.rpartition(".")[0]

    @property
    def meanings(self) -> set[str]:
        """What its plain values mean: their logical types, or else their types."""
        plain = [kind for kind in self.kinds if not (isinstance(kind, dict) and kind["type"] in ("record", "enum"))]
        return {kind if isinstance(kind, str) else kind.get("logicalType", kind["type"]) for kind in plain}

    @property
    def symbols(self) -> list[str]:
        """The symbols of its enum, if it is one."""
        return [symbol for kind in self.kinds if isinstance(kind, dict) for symbol in kind.get("symbols", ())]

    @property
    def is_record(self) -> bool:
        """Its value has fields of its own."""
        return any(isinstance(kind, dict) and kind["type"] == "record" for kind in self.kinds)


def places(record: dict[str, Any], before: Collection[str] = ()) -> dict[str, Place]:
    """All fields of a well-formed record by path. A field that was renamed stands under the path that it had `before`,
    if one of its aliases says so. A record inside itself is not entered again."""
    return {place.path: place for place in _Walk(before).record(record, record["name"], "", ())}


class _Walk:
    def __init__(self, before: Collection[str]) -> None:
        self._before = before
        self._named: dict[str, dict[str, Any]] = {}

    def record(self, record: dict[str, Any], at: str, namespace: str, within: tuple[str, ...]) -> Iterator[Place]:
        fullname = _fullname(record, namespace)
        self._named[fullname] = record
        namespace = fullname.rpartition(".")[0]
        for field in record["fields"]:
            path = self._path(field, at)
            kinds = list(self._kinds(field["type"], namespace))
            yield Place(path, field, tuple(kind for _, kind in kinds if kind != "null"))
            for brackets, kind in kinds:
                inner = isinstance(kind, dict) and kind["type"] == "record"
                if inner and _fullname(kind, namespace) not in (*within, fullname):
                    yield from self.record(kind, path + brackets, namespace, (*within, fullname))

    def _path(self, field: dict[str, Any], at: str) -> str:
        names = [field["name"], *field.get("aliases", ())]
        return next((path for name in names if (path := f"{at}.{name}") in self._before), f"{at}.{field['name']}")

    def _kinds(self, node: Any, namespace: str) -> Iterator[tuple[str, Any]]:
        """The types of single values, each with the brackets of the lists and maps that it stands in."""
        if isinstance(node, list):
            for branch in node:
                yield from self._kinds(branch, namespace)
        elif isinstance(node, str):
            yield "", self._named.get(node if "." in node else f"{namespace}.{node}", node)
        elif node["type"] in ("array", "map"):
            inner, brackets = ("items", "[]") if node["type"] == "array" else ("values", "{}")
            for more, kind in self._kinds(node[inner], namespace):
                yield brackets + more, kind
        elif isinstance(node["type"], dict | list):
            yield from self._kinds(node["type"], namespace)
        else:
            if node["type"] in _NAMED:
                self._named[_fullname(node, namespace)] = node
            yield "", node


def _fullname(node: dict[str, Any], namespace: str) -> str:
    name: str = node["name"]
    return name if "." in name else f"{node.get('namespace', namespace)}.{name}"
