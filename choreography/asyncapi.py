"""The dance as AsyncAPI 3.0: every topic a channel, every event a message with its Avro schema, every service an actor.

https://www.asyncapi.com/docs/reference/specification/v3.0.0. The Avro schemas are those of `schemas/`, in their newest
version; the operations are what services declare.
"""

import html
import json
from collections.abc import Iterator
from typing import Any

from choreography.declared import Dance, Name
from streams.kit.lane import REQUESTS
from streams.kit.language import Language, Schema

VERSION = "3.0.0"
AVRO = "application/vnd.apache.avro+json;version=1.9.0"
BINDING = "0.5.0"
HEADERS = {
    "ce_id": "speaker/partition/sequence: one fact, for ever",
    "ce_type": "the event's name",
    "ce_source": "who said it",
    "clock": "how much its speaker had heard of every speaker, as JSON: {\"billing\":3,\"orders\":12}",
    "cause": "the id of the event that it answers",
    "correlation": "what all events of one order have in common",
    "traceparent": "W3C trace context",
}


def document(dance: Dance, language: Language, version: str) -> dict[str, Any]:
    """The whole document, as JSON values."""
    return {
        "asyncapi": VERSION,
        "info": {
            "title": "Pavane",
            "version": version,
            "description": "An order platform of choreographed services on a Kafka-compatible log. Keys are UTF-8 "
            "text; values are Avro in Confluent wire format; what concerns one key is in one partition, in order.",
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "defaultContentType": "application/avro",
        "channels": {_id(topic): _channel(topic, language) for topic in language.topics},
        "operations": dict(_operations(dance, language)),
        "components": {
            "messages": {
                f"{_id(topic)}_{name}": _message(language.latest(topic, name))
                for topic in language.topics
                for name in language.names(topic)
            },
            "schemas": {"headers": _headers()},
        },
    }


def _id(topic: str) -> str:
    """A topic as a component's name: dots would be read as a path."""
    return topic.replace(".", "_")


def _channel(topic: str, language: Language) -> dict[str, Any]:
    owner = topic.removesuffix(REQUESTS)
    kind = f"What anybody may ask of {owner}." if topic.endswith(REQUESTS) else f"What {owner} says, and nobody else."
    return {
        "address": topic,
        "description": kind,
        "messages": {
            name: {"$ref": f"#/components/messages/{_id(topic)}_{name}"} for name in language.names(topic)
        },
        "bindings": {"kafka": {"topic": topic, "bindingVersion": BINDING}},
    }


def _message(schema: Schema) -> dict[str, Any]:
    return {
        "name": schema.name,
        "title": schema.name,
        "summary": schema.raw["doc"],
        "contentType": "application/avro",
        "headers": {"$ref": "#/components/schemas/headers"},
        "payload": {"schemaFormat": AVRO, "schema": schema.raw},
        "bindings": {
            "kafka": {
                "key": {"type": "string", "description": "What the event is about; it decides the partition."},
                "schemaIdLocation": "payload",
                "schemaIdPayloadEncoding": "confluent",
                "bindingVersion": BINDING,
            }
        },
        "x-version": schema.version,
    }


def _headers() -> dict[str, Any]:
    properties = {name: {"type": "string", "description": told} for name, told in HEADERS.items()}
    return {"type": "object", "description": "Of facts. Requests need none.", "properties": properties}


def _operations(dance: Dance, language: Language) -> Iterator[tuple[str, dict[str, Any]]]:
    """Who says and who hears what, a topic at a time."""
    for service in dance.services:
        if service.says:
            said = [(service.name, name) for name in service.says]
            yield f"{service.name}_says", _operation("send", service.name, f"{service.name} says", said)
        for topic in service.topics:
            heard = [(view.topic, view.__name__) for view in service.views if view.topic == topic]
            if topic in language.topics:
                summary = f"{service.name} hears {topic}"
                yield f"{service.name}_hears_{_id(topic)}", _operation("receive", topic, summary, heard)


def _operation(action: str, topic: str, summary: str, events: list[Name]) -> dict[str, Any]:
    channel = f"#/channels/{_id(topic)}"
    return {
        "action": action,
        "channel": {"$ref": channel},
        "summary": summary,
        "messages": [{"$ref": f"{channel}/messages/{name}"} for _, name in events],
    }


# -- for people --------------------------------------------------------------------------------------------------------

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #1c2733 }
h2 { border-bottom: 2px solid #d8dee6; margin-top: 3rem } h3 { margin: 2rem 0 .2rem }
table { border-collapse: collapse; width: 100%; margin: .5rem 0 } code { background: #f1f4f8; padding: 0 .25em }
th, td { text-align: left; vertical-align: top; padding: .25rem .75rem .25rem 0; border-bottom: 1px solid #e6ebf1 }
nav a { margin-right: 1rem } .who { color: #51606f } @media (prefers-color-scheme: dark) {
body { background: #14181d; color: #dbe2ea } code { background: #222a33 } h2, th, td { border-color: #333d48 }
a { color: #8ab8ff } .who { color: #93a3b5 } }
"""


def page(dance: Dance, language: Language, version: str) -> str:
    """The same as one HTML page that needs nothing else."""
    topics = language.topics
    links = "".join(f'<a href="#{topic}">{topic}</a>' for topic in topics)
    parts = "".join(_topic(dance, language, topic) for topic in topics)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>Pavane: events</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head><body><h1>Pavane: events</h1>'
        f"<p>Version {html.escape(version)}. Every event by topic: what became true, who hears it, and its fields. "
        f"Values are Avro in Confluent wire format.</p><nav>{links}</nav>{parts}</body></html>\n"
    )


def _topic(dance: Dance, language: Language, topic: str) -> str:
    events = "".join(_event(dance, language.latest(topic, name)) for name in language.names(topic))
    return f'<section><h2 id="{topic}">{topic}</h2>{events}</section>'


def _event(dance: Dance, schema: Schema) -> str:
    event = (schema.topic, schema.name)
    heard = [*(f"<b>{each.service}</b>" for each in dance.hearing(event)), *dance.looking_on(event)]
    rows = "".join(
        f"<tr><td><code>{field['name']}</code></td><td><code>{html.escape(_type(field['type']))}</code></td>"
        f"<td>{html.escape(field.get('doc', ''))}</td></tr>"
        for field in schema.raw["fields"]
    )
    return (
        f'<h3 id="{schema.topic}/{schema.name}">{schema.name} <small>v{schema.version}</small></h3>'
        f"<p>{html.escape(schema.raw['doc'])}</p><p class=who>Heard by {', '.join(heard) or 'nobody'}.</p>"
        f"<table><tr><th>field</th><th>type</th><th>meaning</th></tr>{rows}</table>"
    )


def _type(avro: Any) -> str:
    match avro:
        case list():
            return " or ".join(map(_type, avro))
        case {"type": "array", "items": items}:
            return f"list of {_type(items)}"
        case {"type": "enum", "symbols": symbols}:
            return " | ".join(symbols)
        case {"type": "record", "fields": fields}:
            return "{" + ", ".join(f"{field['name']}: {_type(field['type'])}" for field in fields) + "}"
        case {"logicalType": logical}:
            return str(logical)
        case _:
            return str(avro).rpartition(".")[2]


def text(dance: Dance, language: Language, version: str) -> str:
    """The document as JSON text."""
    return json.dumps(document(dance, language, version), indent=2) + "\n"
