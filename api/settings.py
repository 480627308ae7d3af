"""What the gateway process is given; read once at start (see `streams.kit.settings`)."""

from typing import Annotated

from msgspec import Meta

from api.tokens import AUDIENCE, ISSUER
from streams.kit.settings import Settings


class GatewaySettings(Settings, frozen=True, kw_only=True):
    """The gateway's settings beside those that all processes share."""

    redis: Annotated[str, Meta(pattern=r"^(redis|rediss|unix)://", description="Redis URL, for idempotency keys")]
    database_timeline: Annotated[
        str, Meta(pattern=r"^postgres(ql)?://", description="PostgreSQL URL of the timeline, which is only read")
    ]
    jwks: Annotated[
        str,
        Meta(
            # In clear only on this machine: who can change the keys on their way can be anybody.
            pattern=r"^(https://.+|http://(localhost|127\.0\.0\.1|\[::1\])[:/].*|(?!https?://).+)$",
            description="JWKS whose keys sign the callers' tokens: an https address (http on this machine), or a file",
        ),
    ]
    token_issuer: Annotated[str, Meta(min_length=1, description="who issues tokens, as their iss says it")] = ISSUER
    token_audience: Annotated[str, Meta(min_length=1, description="whom tokens are for, as their aud says")] = AUDIENCE
    gateway_host: Annotated[str, Meta(min_length=1, description="address that the gateway listens on")] = "127.0.0.1"
    gateway_port: Annotated[
        int, Meta(ge=0, le=65_535, description="port that the gateway listens on, 0 to 65535; 0 takes a free one")
    ] = 0
