"""Correlation ids, and the settings that a gateway is started with."""

import time
from uuid import UUID

import pytest

from api.correlation import correlation_of, new_id, traceparent_of
from api.settings import GatewaySettings
from streams.kit.errors import WrongSetting

GOOD = {
    "PAVANE_KAFKA": "127.0.0.1:9092",
    "PAVANE_REGISTRY": "http://127.0.0.1:8081",
    "PAVANE_REDIS": "redis://127.0.0.1:6379",
    "PAVANE_DATABASE_TIMELINE": "postgresql://127.0.0.1/timeline",
    "PAVANE_DATABASE_KEYS": "postgresql://127.0.0.1/keys",
    "PAVANE_MASTER_KEYS": "2027:0123456789abcdef0123456789abcdef",
    "PAVANE_JWKS": "jwks.json",
}


def test_new_ids_are_uuids_of_version_7_that_carry_the_time():
    before = time.time_ns() // 1_000_000

    made = UUID(new_id())

    assert (made.version, made.variant) == (7, "specified in RFC 4122")
    assert before <= made.int >> 80 <= time.time_ns() // 1_000_000


def test_new_ids_differ():
    assert len({new_id() for _ in range(1_000)}) == 1_000


@pytest.mark.parametrize("given", [b"a", b"web-42", b"a.b:c_d", b"x" * 128])
def test_a_safe_correlation_id_is_kept(given: bytes):
    assert correlation_of([(b"x-correlation-id", given)]) == given.decode()


@pytest.mark.parametrize("given", [b"", b"a b", b"x" * 129, b"a\n", b'"', b"\xc3\xa9"])
def test_an_unsafe_correlation_id_is_replaced(given: bytes):
    assert UUID(correlation_of([(b"x-correlation-id", given)])).version == 7


def test_only_a_w3c_trace_context_is_passed_on():
    good = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

    assert traceparent_of([(b"traceparent", good)]) == good
    assert traceparent_of([(b"traceparent", good.upper())]) is None
    assert traceparent_of([]) is None


def test_a_gateway_needs_only_to_know_where_things_are():
    settings = GatewaySettings.read(GOOD)

    assert (settings.gateway_host, settings.gateway_port) == ("127.0.0.1", 0)


@pytest.mark.parametrize("variable", GOOD)
def test_a_missing_setting_is_named(variable: str):
    with pytest.raises(WrongSetting, match=rf"{variable} .*is not set"):
        GatewaySettings.read({name: value for name, value in GOOD.items() if name != variable})


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("PAVANE_REDIS", "127.0.0.1:6379"),
        ("PAVANE_DATABASE_TIMELINE", "mysql://127.0.0.1"),
        ("PAVANE_GATEWAY_PORT", "65536"),
        ("PAVANE_GATEWAY_PORT", "http"),
    ],
)
def test_a_wrong_setting_is_named(variable: str, value: str):
    with pytest.raises(WrongSetting, match=variable):
        GatewaySettings.read({**GOOD, variable: value})
