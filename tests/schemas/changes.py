"""Changes of an event, and what a registry says to each under FULL_TRANSITIVE.

`versions`: the fields of each version; the last is the change, those before it are released. `accepted`: whether a
registry takes it. `ours`: what our checker says where it is stricter, or where the schema is wrong by itself.
"""

from typing import Any, NamedTuple

Fields = list[dict[str, Any]]


class Change(NamedTuple):
    """One row of the table."""

    name: str
    versions: tuple[Fields, ...]
    accepted: bool
    ours: str | None = None


def field(name: str, kind: Any = "string", **more: Any) -> dict[str, Any]:
    return {"name": name, "type": kind, "doc": "d", **more}


def maybe(name: str, kind: Any = "string", **more: Any) -> dict[str, Any]:
    return field(name, ["null", kind], default=None, **more)


def maybe_one_of(name: str, *kinds: Any) -> dict[str, Any]:
    return field(name, ["null", *kinds], default=None)


def told(name: str, kind: Any, default: Any, **more: Any) -> dict[str, Any]:
    """A field whose doc says what its default stands for."""
    return {**field(name, kind, default=default, **more), "doc": "What it is; the default: nobody said it."}


def enum(*symbols: str, name: str = "Why", default: str | None = "UNKNOWN", **more: Any) -> dict[str, Any]:
    more |= {} if default is None else {"default": default}
    return {"type": "enum", "name": name, "doc": "d", "symbols": list(symbols), **more}


def record(*fields: dict[str, Any], name: str = "Line", **more: Any) -> dict[str, Any]:
    return {"type": "record", "name": name, "doc": "d", "fields": list(fields), **more}


def fixed(size: int, name: str = "Hash", **more: Any) -> dict[str, Any]:
    return {"type": "fixed", "name": name, "size": size, "doc": "d", **more}


def logical(kind: str, meaning: str, **more: Any) -> dict[str, Any]:
    return {"type": kind, "logicalType": meaning, **more}


def array(items: Any) -> dict[str, Any]:
    return {"type": "array", "items": items}


def mapping(values: Any) -> dict[str, Any]:
    return {"type": "map", "values": values}


def takes(name: str, *versions: Fields) -> Change:
    """The registry and we accept it."""
    return Change(name, tuple([TENANT, *fields] for fields in versions), accepted=True)


def refuses(name: str, *versions: Fields, ours: str | None = None) -> Change:
    """The registry refuses it, and so do we."""
    return Change(name, tuple([TENANT, *fields] for fields in versions), accepted=False, ours=ours)


def stricter(name: str, *versions: Fields, ours: str) -> Change:
    """The registry accepts it, and we do not."""
    return Change(name, tuple([TENANT, *fields] for fields in versions), accepted=True, ours=ours)


TENANT = field("tenant")
MILLIS, MICROS = logical("long", "timestamp-millis"), logical("long", "timestamp-micros")
UA, UAB = enum("UNKNOWN", "A"), enum("UNKNOWN", "A", "B")
NO_DEFAULT = "has no default among its symbols"
NO_VALUE = "is no value of its type"
NOT_AVRO = "is not an Avro schema"
LOST = "has lost A"
RENAMED = "which is alike, has come"
READ_OTHERWISE = "would be read otherwise"
UNION = "Told.n is a union of A and B"
UNMARKED = "is not marked as personal any more"
STANDS_FOR = "its doc does not say what it stands for"


def tree(*fields: dict[str, Any]) -> Fields:
    return [field("tree", record(field("leaf"), *fields, maybe("left", "Node"), name="Node"))]


def lines(*fields: dict[str, Any]) -> Fields:
    return [field("lines", array(record(field("sku"), *fields)))]


COMING_AND_GOING = [
    takes("an optional field comes", [], [maybe("note")]),
    takes("an optional field goes", [maybe("note")], []),
    takes("a field with a default that its doc explains comes", [], [told("channel", "string", "web")]),
    takes("a flag with an explained default comes", [], [told("gift", "boolean", False)]),
    takes("a list comes, empty by default", [], [field("tags", array("string"), default=[])]),
    takes("a map comes, empty by default", [], [field("tags", mapping("string"), default={})]),
    takes("an enum comes, unknown by default", [], [field("reason", UA, default="UNKNOWN")]),
    takes("an optional record comes", [], [maybe("line", record(field("sku")))]),
    takes("fields change places", [field("a"), field("b", "long")], [field("b", "long"), field("a")]),
    takes("a doc is rewritten", [field("a")], [{**field("a"), "doc": "better"}]),
    takes("a default comes to a field that was always said", [field("a")], [told("a", "string", "web")]),
    takes("a default goes from a field that is always said", [told("a", "string", "web")], [field("a")]),
    takes("one optional field goes and one of another type comes", [maybe("a")], [maybe("b", "long")]),
    refuses("a field without a default comes", [], [field("note")]),
    refuses("a field without a default goes", [field("note")], []),
    refuses("an optional field without a default comes", [], [field("note", ["null", "string"])]),
    refuses("an enum without a default of the field comes", [], [field("reason", UA)]),
    refuses("a field comes twice", [], [maybe("a"), maybe("a")], ours=NOT_AVRO),
    refuses("a field comes with a name that is none", [], [maybe("9a")], ours="that Avro does not allow"),
    refuses("a field comes with a type that is none", [], [maybe("a", "text")], ours=NOT_AVRO),
]
DEFAULTS = [
    refuses("a default of another type", [], [told("n", "int", "x")], ours=NO_VALUE),
    refuses("null by default where null is no value", [], [told("n", "string", None)], ours=NO_VALUE),
    refuses("a default that is too large", [], [told("n", "int", 2**31)], ours=NO_VALUE),
    refuses("half a piece by default", [], [told("n", "long", 1.5)], ours=NO_VALUE),
    refuses("a list by default whose item is none", [], [told("n", array("int"), ["x"])], ours=NO_VALUE),
    refuses("a record by default that lacks a field", [], [told("n", record(field("sku")), {})], ours=NO_VALUE),
    stricter("a symbol by default that there is not", [], [field("reason", UA, default="B")], ours=NO_VALUE),
    stricter("null by default, and not first", [], [told("n", ["string", "null"], None)], ours=NO_VALUE),
    stricter("no text by default", [], [field("n", default="")], ours=STANDS_FOR),
    stricter("no by default", [], [field("n", "boolean", default=False)], ours=STANDS_FOR),
    stricter("free by default", [], [told("price_minor", "long", 0)], ours="which reads as a real one"),
    stricter("1970 by default", [], [told("at", MILLIS, 0)], ours="which reads as a real one"),
    stricter(
        "a default becomes another one",
        [told("n", "string", "web")],
        [told("n", "string", "shop")],
        ours="the default of Told.n was 'web' and is 'shop'",
    ),
    stricter(
        "a default of lines becomes another one",
        lines(told("n", "int", 1)),
        lines(told("n", "int", 2)),
        ours=READ_OTHERWISE,
    ),
    stricter(
        "a default becomes null",
        [told("n", ["string", "null"], "web")],
        [field("n", ["null", "string"], default=None)],
        ours=READ_OTHERWISE,
    ),
    stricter(
        "a default becomes another one, under another name",
        [told("a", "string", "web")],
        [told("b", "string", "shop", aliases=["a"])],
        ours=READ_OTHERWISE,
    ),
    takes("a default stays", [told("n", "string", "web")], [told("n", "string", "web", aliases=["m"])]),
    stricter("a reason by default", [], [field("reason", UA, default="A")], ours="as if it were said"),
]
TYPES = [
    takes("a type becomes a union of itself", [field("n")], [field("n", ["string"])]),
    takes("the branches of a union change places", [field("n", ["null", "long"])], [field("n", ["long", "null"])]),
    takes("a fixed stays", [field("n", fixed(4))], [field("n", fixed(4)), maybe("note")]),
    refuses("int becomes long", [field("n", "int")], [field("n", "long")]),
    refuses("long becomes int", [field("n", "long")], [field("n", "int")]),
    refuses("int becomes string", [field("n", "int")], [field("n")]),
    refuses("boolean becomes int", [field("n", "boolean")], [field("n", "int")]),
    refuses("int becomes double", [field("n", "int")], [field("n", "double")]),
    refuses("what is always said becomes optional", [field("n")], [maybe("n")]),
    refuses("what is optional is always said", [maybe("n")], [field("n")]),
    refuses("a union grows", [field("n", ["null", "string"])], [field("n", ["null", "string", "long"])]),
    refuses("a union shrinks", [field("n", ["null", "string", "long"])], [field("n", ["null", "string"])]),
    refuses("one becomes many", [field("n")], [field("n", array("string"))]),
    refuses("a list becomes a map", [field("n", array("string"))], [field("n", mapping("string"))]),
    refuses("the items of a list change", [field("n", array("int"))], [field("n", array("long"))]),
    refuses("the values of a map change", [field("n", mapping("int"))], [field("n", mapping("string"))]),
    refuses("a fixed grows", [field("n", fixed(4))], [field("n", fixed(8))]),
    refuses("a fixed has another name", [field("n", fixed(4))], [field("n", fixed(4, name="Sum"))]),
    stricter("string becomes bytes", [field("n")], [field("n", "bytes")], ours="meant string and means bytes"),
    stricter("bytes becomes string", [field("n", "bytes")], [field("n")], ours="meant bytes and means string"),
    stricter("a double comes", [], [told("n", "double", 0.5)], ours="which is not exact"),
]
MEANINGS = [
    stricter("milliseconds become microseconds", [field("at", MILLIS)], [field("at", MICROS)], ours="meant time"),
    stricter("a time becomes a number", [field("at", MILLIS)], [field("at", "long")], ours="means long"),
    stricter("a text becomes a UUID", [field("id")], [field("id", logical("string", "uuid"))], ours="means uuid"),
    stricter("a day becomes a number", [field("on", logical("int", "date"))], [field("on", "int")], ours="means int"),
    stricter(
        "the cents of a decimal become tenths of them",
        [field("n", logical("bytes", "decimal", precision=9, scale=2))],
        [field("n", logical("bytes", "decimal", precision=9, scale=3))],
        ours="is a decimal",
    ),
    stricter(
        "a fixed becomes a span of time",
        [field("n", fixed(12))],
        [field("n", fixed(12, logicalType="duration"))],
        ours="meant fixed and means duration",
    ),
    stricter(
        "milliseconds within lines become microseconds",
        lines(field("at", MILLIS)),
        lines(field("at", MICROS)),
        ours="Told.lines[].at meant timestamp-millis",
    ),
]
ENUMS = [
    takes("an enum grows", [field("reason", UA)], [field("reason", UAB)]),
    takes("symbols change places", [field("reason", UAB)], [field("reason", enum("B", "A", "UNKNOWN"))]),
    takes(
        "an enum moves to another namespace",
        [field("reason", UA)],
        [field("reason", enum("UNKNOWN", "A", namespace="pavane.shared"))],
    ),
    refuses(
        "an enum without a default grows",
        [field("reason", enum("UNKNOWN", "A", default=None))],
        [field("reason", enum("UNKNOWN", "A", "B", default=None))],
    ),
    refuses(
        "an enum without a default shrinks",
        [field("reason", enum("UNKNOWN", "A", default=None))],
        [field("reason", enum("UNKNOWN", default=None))],
    ),
    refuses("an enum becomes a text", [field("reason", UA)], [field("reason")]),
    refuses("a text becomes an enum", [field("reason")], [field("reason", UA)]),
    refuses("an enum has another name", [field("reason", UA)], [field("reason", enum("UNKNOWN", "A", name="Cause"))]),
    refuses(
        "an enum has another name, and its old one as alias: old consumers do not know",
        [field("reason", UA)],
        [field("reason", enum("UNKNOWN", "A", name="Cause", aliases=["Why"]))],
    ),
    takes(
        "an enum has another name, which old consumers know as an alias, and its old one as alias",
        [field("reason", enum("UNKNOWN", "A", aliases=["Cause"]))],
        [field("reason", enum("UNKNOWN", "A", name="Cause", aliases=["Why"]))],
    ),
    refuses("the default is no symbol", [field("reason", UA)], [field("reason", enum("A", "B"))], ours=NOT_AVRO),
    refuses("a symbol comes twice", [field("reason", UA)], [field("reason", enum("UNKNOWN", "A", "A"))], ours=NOT_AVRO),
    stricter("a symbol goes", [field("reason", UAB)], [field("reason", enum("UNKNOWN", "B"))], ours=LOST),
    stricter("a symbol is renamed", [field("reason", UA)], [field("reason", enum("UNKNOWN", "B"))], ours=LOST),
    stricter("a symbol goes from lines", lines(field("why", UA)), lines(field("why", enum("UNKNOWN"))), ours=LOST),
    stricter("a symbol goes from an option", [maybe("why", UA)], [maybe("why", enum("UNKNOWN"))], ours=LOST),
    stricter(
        "a reason becomes the default",
        [field("reason", UA)],
        [field("reason", enum("UNKNOWN", "A", default="A"))],
        ours="so a new symbol reads as that",
    ),
    stricter(
        "the default goes",
        [field("reason", UA)],
        [field("reason", enum("UNKNOWN", "A", default=None))],
        ours=NO_DEFAULT,
    ),
]
RECORDS = [
    takes("an optional field comes to lines", lines(), lines(maybe("note"))),
    takes("an optional field goes from lines", lines(maybe("note")), lines()),
    takes(
        "a type is used again by its name",
        [field("first", record(field("sku")))],
        [field("first", record(field("sku"))), maybe("last", "Line")],
    ),
    takes("an optional field comes to a record within itself", tree(), tree(maybe("note"))),
    refuses("a field without a default comes to a record within itself", tree(), tree(field("note"))),
    refuses("a field without a default comes to lines", lines(), lines(field("note"))),
    refuses("a field without a default goes from lines", lines(field("note")), lines()),
    refuses("a field of lines changes its type", lines(field("n", "int")), lines(field("n", "long"))),
    refuses(
        "a record has another name",
        [field("line", record(field("sku")))],
        [field("line", record(field("sku"), name="Row"))],
    ),
    refuses("a record becomes a text", [field("line", record(field("sku")))], [field("line")]),
    refuses("a record becomes a list of it", [field("line", record(field("sku")))], [field("line", array(record()))]),
    stricter("lines lose their doc", lines(), [field("lines", array(record(field("sku"), doc="")))], ours="has no doc"),
]
UNIONS = [
    takes("a text or a number stays", [field("n", ["string", "long"])], [field("n", ["string", "long"]), maybe("m")]),
    stricter(
        "a time of the first of two records becomes a number",
        [field("n", [record(field("x", MILLIS), name="A"), record(field("x", "long"), name="B")])],
        [field("n", [record(field("x", "long"), name="A"), record(field("x", "long"), name="B")])],
        ours=UNION,
    ),
    stricter(
        "a symbol goes from the first of two enums",
        [field("n", [enum("UNKNOWN", "P", name="A"), enum("UNKNOWN", "P", name="B")])],
        [field("n", [enum("UNKNOWN", name="A"), enum("UNKNOWN", "P", name="B")])],
        ours=UNION,
    ),
    stricter(
        "two records come, of which one is known by its name",
        [field("line", record(field("sku")))],
        [field("line", record(field("sku"))), maybe_one_of("n", "Line", record(field("sku"), name="Row"))],
        ours="Told.n is a union of Line and Row",
    ),
    stricter(
        "a time beside a list of numbers becomes a number beside a list of times",
        [field("n", [MILLIS, array("long")])],
        [field("n", ["long", array(MILLIS)])],
        ours="Told.n is a union of long and array",
    ),
]
NAMES = [
    takes("an optional field is renamed, with its old name as alias", [maybe("a")], [maybe("b", aliases=["a"])]),
    refuses("a field is renamed, with its old name as alias", [field("a")], [field("b", aliases=["a"])]),
    refuses("a field is renamed", [field("a")], [field("b")]),
    refuses("a field is renamed and has another type", [maybe("a")], [maybe("b", "long", aliases=["a"])]),
    refuses(
        "an alias is the name of a field that is still there",
        [maybe("a"), maybe("b", "long")],
        [maybe("a"), maybe("b", "long", aliases=["a"])],
        ours="an alias that is another field, a",
    ),
    refuses(
        "two optional fields become one",
        [maybe("a"), maybe("b")],
        [maybe("b", aliases=["a"])],
        ours="stands for two, b and a",
    ),
    stricter("an optional field is renamed", [maybe("a")], [maybe("b")], ours=RENAMED),
    stricter("an optional field of lines is renamed", lines(maybe("a")), lines(maybe("b")), ours=RENAMED),
    stricter(
        "a time is renamed with an alias, and counts in another unit",
        [maybe("a", MILLIS)],
        [maybe("b", MICROS, aliases=["a"])],
        ours="meant timestamp-millis",
    ),
    stricter(
        "a field is renamed twice, and remembers one of its names",
        [maybe("a")],
        [maybe("b", aliases=["a"])],
        [maybe("c", aliases=["b"])],
        ours="no longer known as a",
    ),
    takes(
        "a field is renamed twice, and remembers both",
        [maybe("a")],
        [maybe("b", aliases=["a"])],
        [maybe("c", aliases=["b", "a"])],
    ),
    stricter("a field has no doc", [], [{"name": "a", "type": ["null", "string"], "default": None}], ours="has no doc"),
]
PEOPLE = [
    takes("a marked field comes", [], [maybe("email", personal=True)]),
    takes("a mark comes", [field("holder")], [field("holder", personal=True)]),
    stricter("an e-mail comes and is not marked", [], [maybe("email")], ours="tells of a person (email)"),
    stricter("a mark goes", [field("holder", personal=True)], [field("holder")], ours=UNMARKED),
    stricter("a mark goes from lines", lines(field("holder", personal=True)), lines(field("holder")), ours=UNMARKED),
    stricter("a mark is no mark", [], [maybe("holder", personal="yes")], ours="is marked 'yes'"),
]
OVER_TIME = [
    takes("an enum grows twice", [field("why", UA)], [field("why", UAB)], [field("why", enum(*UAB["symbols"], "C"))]),
    takes("a field comes, goes and comes back", [], [maybe("a")], [], [maybe("a")]),
    refuses("a field goes and comes back as another type", [maybe("a")], [], [maybe("a", "long")]),
    stricter(
        "a field goes and comes back with another default",
        [told("a", "string", "web")],
        [],
        [told("a", "string", "shop")],
        ours=READ_OTHERWISE,
    ),
    refuses("a default comes and goes", [], [told("a", "string", "web")], [field("a")]),
    stricter(
        "a time goes and comes back in another unit",
        [maybe("a", MILLIS)],
        [],
        [maybe("a", MICROS)],
        ours="meant timestamp-millis",
    ),
]
CHANGES = [*COMING_AND_GOING, *DEFAULTS, *TYPES, *MEANINGS, *ENUMS, *RECORDS, *UNIONS, *NAMES, *PEOPLE, *OVER_TIME]
