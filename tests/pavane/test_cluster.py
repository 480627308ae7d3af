"""The commands about schemas: where they knock."""

import socket
from pathlib import Path

import pytest

from pavane import cluster
from pavane.cluster import RegistryAway


@pytest.mark.parametrize(
    ("url", "port"),
    [
        ("https://registry.example", 443),
        ("http://registry.example/apis", 80),
        ("https://registry.example:8443", 8443),
    ],
)
def test_a_registry_is_looked_for_at_the_port_of_its_address(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, url: str, port: int
) -> None:
    knocked: list[tuple[str, int]] = []

    def refuse(address: tuple[str, int], seconds: float) -> socket.socket:
        knocked.append(address)
        raise ConnectionRefusedError

    monkeypatch.setenv("PAVANE_KAFKA", "broker.example:9092")
    monkeypatch.setenv("PAVANE_REGISTRY", url)
    monkeypatch.setattr(socket, "create_connection", refuse)

    with pytest.raises(RegistryAway, match="Is PAVANE_REGISTRY right"):
        cluster.push_schemas(tmp_path)

    assert knocked == [("registry.example", port)]
