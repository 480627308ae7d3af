"""Pages for people: the API by operation and every type of problem, from the same data as `/openapi.json`.

They need nothing from elsewhere and run no script, so that they work offline and under the strictest policy.
"""

import base64
import hashlib
import html
import json
from collections.abc import Iterator, Mapping
from typing import Any

from api import examples
from api.errors import TYPE_PREFIX, Problem
from api.explained import EXPLAINED, types

STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1c2430;background:#fff}
h1,h2,h3{line-height:1.2}h2{margin-top:2.5rem;border-top:1px solid #d5dae1;padding-top:1rem}
code,pre{font:14px/1.45 ui-monospace,monospace;background:#f3f5f8;border-radius:4px}code{padding:.1em .3em}
pre{padding:.8rem;overflow:auto}table{border-collapse:collapse;width:100%}
td,th{text-align:left;vertical-align:top;padding:.3rem .6rem .3rem 0;border-bottom:1px solid #e5e8ee}
.method{display:inline-block;min-width:3.5em;font-weight:600;color:#0b5cad}a{color:#0b5cad}
@media(prefers-color-scheme:dark){body{background:#14181f;color:#dfe5ee}code,pre{background:#1f2630}
h2,td,th{border-color:#2c3440}a,.method{color:#7db8ff}}
""".strip()
POLICY = (
    "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    f"style-src 'sha256-{base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()}'"
)
METHODS = ("get", "post", "put", "patch", "delete")


def reference(description: Mapping[str, Any]) -> str:
    """Every operation of the description (OpenAPI), with its parameters, bodies, answers and examples."""
    operations = [
        (method, path, operation)
        for path, methods in description["paths"].items()
        for method, operation in methods.items()
        if method in METHODS
    ]
    index = "".join(
        f'<tr><td><a href="#{each["operationId"]}"><span class=method>{method.upper()}</span> {_text(path)}</a></td>'
        f"<td>{_text(each['description'].split('. ')[0].splitlines()[0])}</td></tr>"
        for method, path, each in operations
    )
    parts = "".join(_operation(*each, description["components"]) for each in operations)
    schemas = "".join(_schema(name, schema) for name, schema in description["components"]["schemas"].items())
    info = description["info"]
    return _page(
        f"{info['title']} API, version {info['version']}",
        f'{_prose(info["description"])}<p>As data: <a href="/openapi.json">/openapi.json</a> (OpenAPI '
        f'{description["openapi"]}). <a href="{TYPE_PREFIX}">Every type of problem</a>.</p>'
        f"<table>{index}</table>{parts}"
        f"<h2>Schemas</h2>{schemas}",
    )


def problem(kind: type[Problem]) -> str:
    """One type of problem: what happened, what to do, an example."""
    said = EXPLAINED[kind.slug]
    example = json.dumps(examples.of_problem(kind).document("web-42"), indent=2, ensure_ascii=False)
    return _page(
        kind.title,
        f"<p><code>{kind.status}</code> <code>{TYPE_PREFIX}{kind.slug}</code></p><h2>What happened</h2>"
        f"<p>{_text(said.happened)}</p><h2>What to do</h2><p>{_text(said.to_do)}</p><h2>An example</h2>"
        f'<pre>{_text(example)}</pre><p><a href="{TYPE_PREFIX}">Every type of problem</a>, '
        '<a href="/docs">the API</a></p>',
    )


def problems() -> str:
    """Every type of problem on one page."""
    rows = "".join(
        f'<tr><td><code>{kind.status}</code></td><td><a href="{TYPE_PREFIX}{kind.slug}">{_text(kind.title)}</a></td>'
        f"<td>{_text(EXPLAINED[kind.slug].to_do)}</td></tr>"
        for kind in types()
        if kind.slug in EXPLAINED
    )
    return _page("Problems", f"<p>What the API answers instead of what was asked (RFC 9457).</p><table>{rows}</table>")


def _operation(method: str, path: str, operation: Mapping[str, Any], parts: Mapping[str, Any]) -> str:
    body = operation.get("requestBody", {}).get("content", {})
    title = f"<span class=method>{method.upper()}</span> <code>{_text(path)}</code>"
    return (
        f'<h2 id="{operation["operationId"]}">{title}</h2>'
        f"{_prose(operation['description'])}{''.join(_parameters(operation.get('parameters', [])))}"
        f"{''.join(_content('Body', body, parts))}{''.join(_answers(operation['responses'], parts))}"
    )


def _parameters(parameters: list[Mapping[str, Any]]) -> Iterator[str]:
    if parameters:
        rows = "".join(
            f"<tr><td><code>{_text(each['name'])}</code></td>"
            f"<td>{each['in']}{', required' if each.get('required') else ''}</td>"
            f"<td>{_text(each.get('description', ''))} {_bounds(each['schema'])}</td></tr>"
            for each in parameters
        )
        yield f"<h3>Parameters</h3><table>{rows}</table>"


def _answers(responses: Mapping[str, Any], parts: Mapping[str, Any]) -> Iterator[str]:
    yield "<h3>Answers</h3>"
    for status, response in responses.items():
        slugs = response.get("content", {}).get("application/problem+json", {}).get("examples", {})
        links = ", ".join(f'<a href="{TYPE_PREFIX}{slug}">{slug}</a>' for slug in slugs)
        headers = ", ".join(f"<code>{name}</code>" for name in response.get("headers", {}))
        yield f"<p><code>{status}</code> {links or _text(response['description'])}<br>Headers: {headers or 'none'}</p>"
        if not links:
            yield from _content("", response.get("content", {}), parts)


def _content(title: str, content: Mapping[str, Any], parts: Mapping[str, Any]) -> Iterator[str]:
    for kind, said in content.items():
        name = said.get("schema", {}).get("$ref", "").rpartition("/")[2]
        link = f', <a href="#{name}">{name}</a>' if name else ""
        yield f"{f'<h3>{title}</h3>' if title else ''}<p><code>{kind}</code>{link}</p>"
        shown = said.get("example") or next(iter(parts["schemas"].get(name, {}).get("examples", [])), None)
        if shown is not None:
            text = shown if isinstance(shown, str) else json.dumps(shown, indent=2, ensure_ascii=False)
            yield f"<pre>{_text(text)}</pre>"


def _schema(name: str, schema: Mapping[str, Any]) -> str:
    needed = schema.get("required", [])
    rows = "".join(
        f"<tr><td><code>{field}</code></td><td>{'required' if field in needed else ''}</td>"
        f"<td>{_bounds(said)}</td></tr>"
        for field, said in schema.get("properties", {}).items()
    )
    return f'<h3 id="{name}">{name}</h3>{_prose(schema.get("description", ""))}<table>{rows}</table>'


def _bounds(schema: Mapping[str, Any]) -> str:
    """A type with its limits, in short."""
    kinds = schema.get("anyOf") or [schema]
    return " or ".join(_kind(kind) for kind in kinds)


def _kind(schema: Mapping[str, Any]) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f'<a href="#{name}">{name}</a>'
    if schema.get("type") == "array":
        return f"list of {_bounds(schema.get('items', {}))}{_limits(schema)}"
    return f"{_text(str(schema.get('format') or schema.get('type', 'anything')))}{_limits(schema)}"


def _limits(schema: Mapping[str, Any]) -> str:
    named = ("minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems", "pattern")
    return "".join(f", {name} <code>{_text(str(schema[name]))}</code>" for name in named if name in schema)


def _prose(text: str) -> str:
    """Paragraphs, and lists of lines that begin with a dash; `code` and **strong** as in Markdown."""
    blocks = []
    for block in text.strip().split("\n\n"):
        items = block.split("\n- ") if block.startswith("- ") else []
        listed = "".join(f"<li>{_inline(item.removeprefix('- '))}</li>" for item in items)
        blocks.append(f"<ul>{listed}</ul>" if items else f"<p>{_inline(block)}</p>")
    return "".join(blocks)


def _inline(text: str) -> str:
    words = _text(text).split("`")
    coded = "".join(f"<code>{word}</code>" if number % 2 else word for number, word in enumerate(words))
    strong = coded.split("**")
    return "".join(f"<strong>{word}</strong>" if number % 2 else word for number, word in enumerate(strong))


def _text(text: str) -> str:
    return html.escape(text)


def _page(title: str, body: str) -> str:
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width">'
        f"<title>{_text(title)}</title><style>{STYLE}</style></head><body><h1>{_text(title)}</h1>{body}</body></html>\n"
    )
