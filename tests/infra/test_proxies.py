"""Behind a proxy: the servers here are asked directly, and everybody else as the environment says."""

import os
import subprocess
import sys
import urllib.request

import pytest

from infra.proxies import pass_by_proxies

PROXY = "http://proxy.example:3128"
HERE, ELSEWHERE = "127.0.0.1:8080", "repo.maven.apache.org"


def bypassed(host: str) -> bool:
    return bool(urllib.request.proxy_bypass(host))


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    # Put back at the end, whatever is set meanwhile.
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "")
    return monkeypatch


@pytest.mark.parametrize("variable", ["http_proxy", "HTTPS_PROXY", "all_proxy"])
def test_servers_here_are_asked_without_a_proxy_and_others_through_it(
    environment: pytest.MonkeyPatch, variable: str
) -> None:
    environment.setenv(variable, PROXY)

    pass_by_proxies()

    assert bypassed(HERE)
    assert not bypassed(ELSEWHERE)
    assert urllib.request.getproxies_environment()[variable.lower().removesuffix("_proxy")] == PROXY


@pytest.mark.parametrize("variable", ["no_proxy", "NO_PROXY"])
def test_whom_the_user_asks_directly_is_asked_directly_still(environment: pytest.MonkeyPatch, variable: str) -> None:
    environment.setenv("http_proxy", PROXY)
    environment.setenv(variable, "intranet.example, 127.0.0.1")

    pass_by_proxies()
    pass_by_proxies()

    assert os.environ["no_proxy"] == os.environ["NO_PROXY"] == "intranet.example,127.0.0.1,localhost"


def test_who_asks_everybody_directly_goes_on_so() -> None:
    environment = {"HTTP_PROXY": PROXY, "no_proxy": "*"}

    pass_by_proxies(environment)

    assert environment["no_proxy"] == "*"


def test_without_a_proxy_nothing_is_changed() -> None:
    environment = {"PATH": "/bin", "http_proxy": ""}

    pass_by_proxies(environment)

    assert environment == {"PATH": "/bin", "http_proxy": ""}


def test_every_command_begins_so() -> None:
    begun = (
        "import atexit, os, sys; sys.argv = ['pavane', 'schemas', 'list'];"
        "atexit.register(lambda: print('no_proxy', os.environ.get('no_proxy')));"
        "from pavane.main import app; app()"
    )
    environment = {**os.environ, "http_proxy": PROXY, "no_proxy": "", "NO_PROXY": ""}

    said = subprocess.run([sys.executable, "-c", begun], env=environment, capture_output=True, text=True, check=True)

    assert said.stdout.splitlines()[-1] == "no_proxy 127.0.0.1,localhost"
