"""Where the parts are: what a stack gives to services, as one value and as environment variables.

    PAVANE_KAFKA              host:port[,host:port...]
    PAVANE_REGISTRY           URL of a registry's Confluent API
    PAVANE_REDIS              redis:// URL
    PAVANE_DATABASE_ADMIN     postgresql:// URL of a role that may create roles and databases
    PAVANE_DATABASE_<NAME>    postgresql:// URL of one service's database
    PAVANE_MASTER_KEYS        id:secret,id:secret: what the keys of persons are wrapped with (docs/privacy.md)

A variable that is set before the stack starts names a server of the user's own, which is used instead of an embedded
one:

- PAVANE_KAFKA, PAVANE_REGISTRY, PAVANE_REDIS: that server is used as it is, and nothing is started in its place.
- PAVANE_DATABASE_ADMIN: no PostgreSQL is started; missing roles and databases are made there, and each role gets the
  password kept in the data folder.
- PAVANE_MASTER_KEYS: used as it is; without it, the data folder makes one of its own and keeps it.
- PAVANE_DATABASE_<NAME>, only together with PAVANE_DATABASE_ADMIN: that database is used as it is, nothing is made for
  it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from infra.errors import SettingWrong

KAFKA = "PAVANE_KAFKA"
REGISTRY = "PAVANE_REGISTRY"
REDIS = "PAVANE_REDIS"
MASTER_KEYS = "PAVANE_MASTER_KEYS"
DATABASE = "PAVANE_DATABASE_"
DATABASE_ADMIN = f"{DATABASE}ADMIN"


@dataclass(frozen=True)
class Addresses:
    """Where everything is; `postgres` maps a database's name to its URL. URLs carry passwords: do not log them,
    nor `master_keys`."""

    kafka_bootstrap: str
    registry_url: str
    postgres: Mapping[str, str]
    postgres_admin: str
    redis_url: str
    master_keys: str = ""

    def environment(self) -> dict[str, str]:
        """The variables that name all of this; a service started with them finds its servers."""
        return {
            KAFKA: self.kafka_bootstrap,
            REGISTRY: self.registry_url,
            REDIS: self.redis_url,
            DATABASE_ADMIN: self.postgres_admin,
            **({MASTER_KEYS: self.master_keys} if self.master_keys else {}),
            **{database_variable(name): url for name, url in self.postgres.items()},
        }


@dataclass(frozen=True)
class External:
    """The servers that the user's environment names; None or absent: to be started by us."""

    kafka: str | None
    registry: str | None
    redis: str | None
    postgres_admin: str | None
    postgres: Mapping[str, str]

    @classmethod
    def read(cls, environment: Mapping[str, str], databases: Sequence[str]) -> External:
        """`SettingWrong` names the variable that cannot be used, and what it may be."""
        admin = _url(environment, DATABASE_ADMIN, ("postgresql://", "postgres://"))
        named = {
            name: url
            for name in databases
            if (url := _url(environment, database_variable(name), ("postgresql://", "postgres://")))
        }
        if named and admin is None:
            variables = ", ".join(map(database_variable, named))
            raise SettingWrong(f"{variables} is set, but {DATABASE_ADMIN} is not: set it too, or none of them.")
        return cls(
            kafka=environment.get(KAFKA) or None,
            registry=_url(environment, REGISTRY, ("http://", "https://")),
            redis=_url(environment, REDIS, ("redis://", "rediss://")),
            postgres_admin=admin,
            postgres=named,
        )


def database_variable(name: str) -> str:
    return f"{DATABASE}{name.upper().replace('-', '_')}"


def _url(environment: Mapping[str, str], variable: str, schemes: tuple[str, ...]) -> str | None:
    value = environment.get(variable) or None
    if value is not None and not value.startswith(schemes):
        raise SettingWrong(f"{variable} is {value.split('@')[-1]!r}; it must start with {' or '.join(schemes)}.")
    return value
