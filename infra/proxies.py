"""The servers here are asked directly, whatever proxy the environment names for everybody else."""

import os
from collections.abc import MutableMapping

PROXIES = ("http_proxy", "https_proxy", "all_proxy")
NO_PROXY = ("no_proxy", "NO_PROXY")
HERE = ("127.0.0.1", "localhost")


def pass_by_proxies(environment: MutableMapping[str, str] = os.environ) -> None:
    """Have this process, and those that it starts, ask 127.0.0.1 without a proxy; all others as before.

    Where no proxy is named nothing is changed: on macOS a `no_proxy` alone would hide the proxies of the system.
    """
    if not any(environment.get(name) for name in environment if name.lower() in PROXIES):
        return
    named = [environment.get(name, "") for name in NO_PROXY]
    for name, own, other in zip(NO_PROXY, named, reversed(named), strict=True):
        kept = [host for each in (own or other).split(",") if (host := each.strip())]
        if "*" not in kept:
            environment[name] = ",".join([*kept, *(host for host in HERE if host not in kept)])
