"""Avro schemas compiled to Python: one function a schema, made once, that reads only what the consumer's view needs.

A general Avro reader walks the schema anew for every record. Here the walk is done once, and what is left is straight
code: what the view does not read is stepped over, not built. `reader` and `writer` give None for a schema, or a
difference between two versions of one, that they do not cover; the general reader and writer (fastavro) then serve,
and the tests hold the two equal.

Whatever is wrong with the bytes raises an exception, of no certain class; nothing here loops longer than the bytes are.
"""

import struct
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, cast

Read = Callable[[bytes], dict[str, Any]]
Write = Callable[[Mapping[str, Any], bytearray], None]

HEAD_BYTES = 5
_SAME_BYTES = {("int", "long")}
_NAMED = ("record", "enum")
_DOUBLE = struct.Struct("<d")


class NotCovered(Exception):
    """The general reader or writer has to serve."""


def reader(written: Any, wanted: Any) -> Read | None:
    """A function from a record's bytes, in the schema `written`, to the fields of the schema `wanted`."""
    try:
        return cast("Read", _Reading().compiled(written, wanted))
    except NotCovered:
        return None


def writer(schema: Any) -> Write | None:
    """A function that appends a record's Avro bytes. It raises `TypeError`, `ValueError`, `KeyError`,
    `AttributeError` or `OverflowError` for a value that does not fit."""
    try:
        return cast("Write", _Writing().compiled(schema))
    except NotCovered:
        return None


class _Source:
    """Python source that grows line by line, and the constants that it names."""

    def __init__(self) -> None:
        self.names: dict[str, Any] = dict(_RUNTIME)
        self._lines: list[str] = []
        self._depth = 1
        self._count = 0
        self._types: dict[str, Any] = {}

    def line(self, text: str) -> None:
        self._lines.append("    " * self._depth + text)

    def block(self, head: str) -> "_Source":
        self.line(head)
        return self

    def __enter__(self) -> None:
        self._depth += 1

    def __exit__(self, *_: object) -> None:
        self._depth -= 1

    def fresh(self) -> str:
        self._count += 1
        return f"v{self._count}"

    def constant(self, value: Any) -> str:
        name = f"c{len(self.names)}"
        self.names[name] = value
        return name

    def function(self, head: str) -> Any:
        text = "\n".join([head, *self._lines])
        exec(compile(text, f"<{head}>", "exec"), self.names)
        return self.names["compiled"]

    def opened(self, schema: Any) -> Any:
        """The schema itself, where it is the name of one seen before."""
        return _opened(schema, self._types)


class _Reading(_Source):
    """Compiles a reader. `i` is the place in the bytes `b`."""

    def __init__(self) -> None:
        super().__init__()
        self._wanted_types: dict[str, Any] = {}

    def compiled(self, written: Any, wanted: Any) -> Any:
        self.line(f"i = {HEAD_BYTES}")
        result = self._record(self.opened(written), wanted)
        self.line("if i > len(b): raise ValueError('the bytes end too early')")
        self.line(f"return {result}")
        return self.function("def compiled(b):")

    def _value(self, written: Any, wanted: Any) -> str:
        """Lines that read a value; the name that holds it. `wanted` None: step over it."""
        written = self.opened(written)
        if isinstance(written, list):
            return self._union(written, wanted)
        wanted = _opened(_branch(wanted, written), self._wanted_types)
        kind, logical = _kind(written)
        if wanted is not None:
            _must_match(written, wanted)
        if kind == "record":
            return self._record(written, wanted)
        if kind == "array":
            return self._array(written, wanted)
        if logical not in (None, "timestamp-millis"):
            raise NotCovered(logical)
        return self._leaf(kind, logical, written, skip=wanted is None)

    def _leaf(self, kind: str, logical: str | None, written: Any, *, skip: bool) -> str:
        name = self.fresh()
        if kind in ("string", "bytes"):
            self.line("n = b[i]")
            self.line("if n & 129: n, i = length(b, i)")
            self.line("else: n >>= 1; i += 1")
            if not skip:
                self.line(f"{name} = b[i : i + n]" + (".decode()" if kind == "string" else ""))
            self.line("i += n")
        elif kind in ("int", "long", "enum"):
            self._long()
            if kind == "enum":
                self.line(f"{name} = {self.constant(dict(enumerate(written['symbols'])))}[n]")
            elif logical is not None and not skip:
                self.line(f"{name} = EPOCH + timedelta(milliseconds=n)")
            elif not skip:
                self.line(f"{name} = n")
        elif kind == "boolean":
            self.line(f"{name} = b[i] != 0")
            self.line("i += 1")
        elif kind == "double":
            self.line(f"[{name}] = double(b, i)")
            self.line("i += 8")
        elif kind == "null":
            self.line(f"{name} = None")
        else:
            raise NotCovered(kind)
        return name

    def _long(self) -> None:
        self.line("n = b[i]")
        self.line("i += 1")
        self.line("if n > 127: n, i = long(b, i, n)")
        self.line("n = (n >> 1) ^ -(n & 1)")

    def _record(self, written: Any, wanted: Any) -> str:
        names: dict[str, str] = {}
        fields = {} if wanted is None else {field["name"]: field for field in wanted["fields"]}
        by_writers_name = {alias: field for field in fields.values() for alias in (*field.get("aliases", ()),)}
        by_writers_name.update(fields)
        for field in written["fields"]:
            mine = by_writers_name.get(field["name"])
            name = self._value(field["type"], mine["type"] if mine else None)
            if mine:
                names[mine["name"]] = name
        for field in fields.values():
            if field["name"] not in names:
                names[field["name"]] = self.constant(_default(field))
        result = self.fresh()
        if wanted is not None:
            entries = ", ".join(f"{field!r}: {names[field]}" for field in fields)
            self.line(f"{result} = {{{entries}}}")
        return result

    def _array(self, written: Any, wanted: Any) -> str:
        result, count = self.fresh(), self.fresh()
        self.line(f"{result} = []")
        with self.block("while True:"):
            self._long()
            self.line("if n == 0: break")
            with self.block("if n < 0:"):
                self.line(f"{count} = -n")
                self._long()
            with self.block("else:"):
                self.line(f"{count} = n")
            with self.block(f"for _ in range({count}):"):
                self.line("if i >= len(b): raise ValueError('the bytes end too early')")
                item = self._value(written["items"], wanted["items"] if wanted is not None else None)
                if wanted is not None:
                    self.line(f"{result}.append({item})")
        return result

    def _union(self, written: list[Any], wanted: Any) -> str:
        result, which = self.fresh(), self.fresh()
        self._long()
        self.line(f"{which} = n")
        for number, branch in enumerate(written):
            with self.block(f"{'if' if number == 0 else 'elif'} {which} == {number}:"):
                value = self._value(branch, wanted)
                if wanted is not None:
                    self.line(f"{result} = {value}")
                self.line("pass")
        self.line(f"else: raise ValueError(f'there is no branch {{{which}}} in the union')")
        return result


class _Writing(_Source):
    """Compiles a writer: appends to `o`."""

    def compiled(self, schema: Any) -> Any:
        self._record(self.opened(schema), "r")
        return self.function("def compiled(r, o):")

    def _value(self, schema: Any, value: str) -> None:
        schema = self.opened(schema)
        if isinstance(schema, list):
            return self._optional(schema, value)
        kind, logical = _kind(schema)
        if kind == "record":
            return self._record(schema, value)
        if kind == "array":
            return self._array(schema, value)
        if logical not in (None, "timestamp-millis"):
            raise NotCovered(logical)
        return self._leaf(kind, logical, schema, value)

    def _leaf(self, kind: str, logical: str | None, schema: Any, value: str) -> None:
        if kind == "string":
            self.line(f"s = {value}.encode()")
            self._number("len(s)")
            self.line("o += s")
        elif kind in ("int", "long"):
            self.line(f"n = {value}" if logical is None else f"n = ({value} - EPOCH) // MILLISECOND")
            bits = 31 if kind == "int" else 63
            self.line(f"if not {-(2**bits)} <= n < {2**bits}: raise OverflowError(f'{{n}} does not fit into {kind}')")
            self._number("n")
        elif kind == "enum":
            symbols = {symbol: number for number, symbol in enumerate(schema["symbols"])}
            self._number(f"{self.constant(symbols)}[{value}]")
        elif kind == "boolean":
            self.line(f"o.append(BOOLEAN[{value}])")
        elif kind == "double":
            self.line(f"o += pack_double({value})")
        elif kind != "null":
            raise NotCovered(kind)

    def _number(self, number: str) -> None:
        self.line(f"n = {number}")
        self.line("n = n + n if n >= 0 else -n - n - 1")
        self.line("if n < 128: o.append(n)")
        self.line("else: put(o, n)")

    def _record(self, schema: Any, value: str) -> None:
        for field in schema["fields"]:
            name = self.fresh()
            if "default" in field:
                self.line(f"{name} = {value}.get({field['name']!r}, {self.constant(_default(field))})")
            else:
                self.line(f"{name} = {value}[{field['name']!r}]")
            self._value(field["type"], name)

    def _array(self, schema: Any, value: str) -> None:
        item = self.fresh()
        with self.block(f"if {value}:"):
            self._number(f"len({value})")
            with self.block(f"for {item} in {value}:"):
                self._value(schema["items"], item)
        self.line("o.append(0)")

    def _optional(self, schema: list[Any], value: str) -> None:
        if len(schema) != 2 or "null" not in schema:
            raise NotCovered("a union of other than null and one type")
        other = 1 - schema.index("null")
        with self.block(f"if {value} is None:"):
            self.line(f"o.append({schema.index('null') * 2})")
        with self.block("else:"):
            self.line(f"o.append({other * 2})")
            self._value(schema[other], value)


# -- schemas ---------------------------------------------------------------------------------------------------------


def _opened(schema: Any, types: dict[str, Any]) -> Any:
    if isinstance(schema, str) and schema in types:
        return types[schema]
    if isinstance(schema, dict) and schema.get("type") in _NAMED:
        types[schema["name"]] = schema
    return schema


def _kind(schema: Any) -> tuple[str, str | None]:
    if isinstance(schema, str):
        return schema, None
    if isinstance(schema["type"], dict | list):
        raise NotCovered("a type within a type")
    return schema["type"], schema.get("logicalType")


def _branch(wanted: Any, written: Any) -> Any:
    """Of a union that is wanted, the branch that the written type is."""
    if not isinstance(wanted, list):
        return wanted
    for each in wanted:
        if _kind(each) == _kind(written) and _short_name(each) == _short_name(written):
            return each
    raise NotCovered("no branch of the union is the same type")


def _must_match(written: Any, wanted: Any) -> None:
    if isinstance(wanted, str) and wanted not in _PRIMITIVES:
        raise NotCovered("a type named before")
    if (_kind(written)[0], _kind(wanted)[0]) in _SAME_BYTES and _kind(written)[1] == _kind(wanted)[1]:
        return
    if _kind(written) != _kind(wanted) or _short_name(written) != _short_name(wanted):
        raise NotCovered("another type")
    if _kind(written)[0] == "enum" and not set(written["symbols"]) <= set(wanted["symbols"]):
        raise NotCovered("a symbol that the reader does not know")


def _short_name(schema: Any) -> str:
    return str(schema.get("name", "")).rpartition(".")[2] if isinstance(schema, dict) else ""


def _default(field: Any) -> Any:
    """The value of a field that was not written. Only where JSON and the value look the same."""
    kind = field["type"]
    if "default" not in field:
        raise NotCovered("a field without a default was not written")
    if isinstance(kind, list):
        kind = kind[0]
    plain = isinstance(kind, str) and kind in _PRIMITIVES - {"bytes"}
    if not plain and not (isinstance(kind, dict) and kind["type"] == "enum") and field["default"] not in ([], None):
        raise NotCovered("a default of that type")
    return field["default"]


_PRIMITIVES = {"null", "boolean", "int", "long", "float", "double", "bytes", "string"}


# -- what compiled code calls ----------------------------------------------------------------------------------------


def _rest_of_long(b: bytes, i: int, first: int) -> tuple[int, int]:
    """An unsigned number whose first byte said that more follow, and the place behind it."""
    number, shift = first & 127, 7
    while True:
        byte = b[i]
        i += 1
        number |= (byte & 127) << shift
        if byte < 128:
            break
        shift += 7
    if number >> 64:
        raise ValueError("a number takes more than 64 bits")
    return number, i


def _length(b: bytes, i: int) -> tuple[int, int]:
    first = b[i]
    number, i = _rest_of_long(b, i + 1, first) if first > 127 else (first, i + 1)
    if number & 1 or number >> 1 > len(b) - i:
        raise ValueError("a length is negative, or beyond the end of the bytes")
    return number >> 1, i


def _put_long(o: bytearray, n: int) -> None:
    while n > 127:
        o.append(n & 127 | 128)
        n >>= 7
    o.append(n)


_RUNTIME: dict[str, Any] = {
    "long": _rest_of_long,
    "length": _length,
    "put": _put_long,
    "double": _DOUBLE.unpack_from,
    "pack_double": _DOUBLE.pack,
    "EPOCH": datetime(1970, 1, 1, tzinfo=UTC),
    "MILLISECOND": timedelta(milliseconds=1),
    "BOOLEAN": {True: 1, False: 0},
    "timedelta": timedelta,
}
