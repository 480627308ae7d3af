"""Addresses go out as environment variables, and come in by the same names."""

from __future__ import annotations

import pytest

from infra.addresses import Addresses, External
from infra.databases import database_url
from infra.errors import SettingWrong

ADMIN = "postgresql://postgres:secret@127.0.0.1:5432/postgres"
ADDRESSES = Addresses(
    kafka_bootstrap="127.0.0.1:9092",
    registry_url="http://127.0.0.1:8080/apis/ccompat/v7",
    postgres={"orders": "postgresql://orders:secret@127.0.0.1:5432/orders"},
    postgres_admin=ADMIN,
    redis_url="redis://:secret@127.0.0.1:6379/0",
)


def test_a_stack_uses_the_servers_of_another_stacks_environment() -> None:
    external = External.read(ADDRESSES.environment(), ["orders", "billing"])

    assert external == External(
        kafka=ADDRESSES.kafka_bootstrap,
        registry=ADDRESSES.registry_url,
        redis=ADDRESSES.redis_url,
        postgres_admin=ADMIN,
        postgres=ADDRESSES.postgres,
    )


def test_an_empty_variable_is_no_variable() -> None:
    assert External.read({"PAVANE_KAFKA": "", "PAVANE_REDIS": ""}, []) == External(None, None, None, None, {})


def test_a_database_without_its_admin_is_refused() -> None:
    with pytest.raises(SettingWrong, match="PAVANE_DATABASE_ORDERS is set, but PAVANE_DATABASE_ADMIN is not"):
        External.read({"PAVANE_DATABASE_ORDERS": ADMIN}, ["orders"])


def test_a_wrong_url_is_named_without_its_password() -> None:
    with pytest.raises(SettingWrong, match="PAVANE_REDIS is 'host:1'; it must start with redis://") as wrong:
        External.read({"PAVANE_REDIS": "http://:secret@host:1"}, [])

    assert "secret" not in str(wrong.value)


def test_the_url_of_a_database_keeps_the_admins_options() -> None:
    assert database_url("postgresql://a:b@host:1/postgres?sslmode=require", "orders", "p/w") == (
        "postgresql://orders:p%2Fw@host:1/orders?sslmode=require"
    )
