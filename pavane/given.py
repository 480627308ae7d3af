"""What a process of the platform is given: no database but its own; locally, limits that get in nobody's way."""

from collections.abc import Mapping

from infra.addresses import DATABASE, MASTER_KEYS, database_variable
from infra.stack import KEYS_DATABASE, WORLD_DATABASE
from pavane import instance
from pavane.instance import GATEWAY
from streams.kit.run import find, services

#: All customers of a local platform come from this one address, and a benchmark is meant to come often.
LOCAL_LIMITS = {"PAVANE_LIMIT_ADDRESS": "0", "PAVANE_LIMIT_USER": "10000", "PAVANE_LIMIT_TENANT": "100000"}
#: How every gateway of a local platform is set, the first and those that are started beside it.
LOCAL_GATEWAY = {**LOCAL_LIMITS, "PAVANE_GATEWAY_DOCS": "true"}
#: Whose tokens a gateway takes: an identity provider's address, or a file.
JWKS = "PAVANE_JWKS"
#: In the data folder: where the operators' desk of the platform on it answers.
DESK_FILE = "desk.url"
#: Who protects personal text or reveals it; nobody else is given keys.
KEEPERS = frozenset({GATEWAY, "orders", "shipping"})


def given(name: str, everything: Mapping[str, str]) -> dict[str, str]:
    """`everything` without the secrets that the service `name`, or the gateway, has no use for."""
    own = {database_variable(each) for each in _databases(name)}
    if name in KEEPERS:
        own |= {database_variable(KEYS_DATABASE), MASTER_KEYS}
    secret = (DATABASE, MASTER_KEYS)
    return {key: value for key, value in everything.items() if key in own or not key.startswith(secret)}


def _databases(name: str) -> list[str]:
    match name:
        case instance.GATEWAY:
            return ["timeline"]
        case instance.DESK:
            return list(services())
        case _:
            return [name] if find(name).world is None else [name, WORLD_DATABASE]
