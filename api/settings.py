"""What the gateway process is given; read once at start (see `streams.kit.settings`)."""

from typing import Annotated

from msgspec import Meta

from streams.kit.keyring import KeySettings


class GatewaySettings(KeySettings, frozen=True, kw_only=True):
    """The gateway's settings beside those that all processes share, and the keys of persons."""

    redis: Annotated[str, Meta(pattern=r"^(redis|rediss|unix)://", description="Redis URL, for idempotency keys")]
    database_timeline: Annotated[
        str, Meta(pattern=r"^postgres(ql)?://", description="PostgreSQL URL of the timeline, which is only read")
    ]
    jwks: Annotated[str, Meta(min_length=1, description="path of the JWKS file whose keys sign the callers' tokens")]
    gateway_host: Annotated[str, Meta(min_length=1, description="address that the gateway listens on")] = "127.0.0.1"
    gateway_port: Annotated[
        int, Meta(ge=0, le=65_535, description="port that the gateway listens on, 0 to 65535; 0 takes a free one")
    ] = 0
