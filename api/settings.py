"""What the gateway process is given; read once at start (see `streams.kit.settings`)."""

from typing import Annotated

from msgspec import Meta

from api.tokens import AUDIENCE, ISSUER
from streams.kit.keyring import KeySettings

Jwks = Annotated[
    str,
    Meta(
        # In clear only on this machine: who can change the keys on their way can be anybody.
        pattern=r"^(https://.+|http://(localhost|127\.0\.0\.1|\[::1\])[:/].*|(?!https?://).+)$",
        description="JWKS whose keys sign the callers' tokens: an https address (http on this machine), or a file",
    ),
]
TokenIssuer = Annotated[str, Meta(min_length=1, description="who issues tokens, as their iss says it")]
TokenAudience = Annotated[str, Meta(min_length=1, description="whom tokens are for, as their aud says")]


class GatewaySettings(KeySettings, frozen=True, kw_only=True):
    """The gateway's settings beside those that all processes share, and the keys of persons."""

    redis: Annotated[str, Meta(pattern=r"^(redis|rediss|unix)://", description="Redis URL, for idempotency keys")]
    database_timeline: Annotated[
        str,
        Meta(
            pattern=r"^postgres(ql)?://",
            description="PostgreSQL URL of the timeline: it is read; the gateway announces itself there",
        ),
    ]
    jwks: Jwks
    token_issuer: TokenIssuer = ISSUER
    token_audience: TokenAudience = AUDIENCE
    desk: Annotated[
        str,
        Meta(
            pattern=r"^(https?://.+)?$",
            description="address of the operators' desk, for dead letters and what holds orders up; or none",
        ),
    ] = ""
    trusted_proxies: Annotated[
        str, Meta(description="proxies whose X-Forwarded-For is believed: addresses or networks, comma between them")
    ] = ""
    limit_address: Annotated[
        float, Meta(ge=0, description="units a second of one address; a read is 1, a write 5, a bad token 10; 0: any")
    ] = 200.0
    limit_user: Annotated[
        float, Meta(ge=0, description="units a second of one user, for reading and for writing each; 0: any number")
    ] = 50.0
    limit_tenant: Annotated[
        float, Meta(ge=0, description="units a second of one tenant, for reading and for writing each; 0: any number")
    ] = 2_500.0
    limit_burst_seconds: Annotated[
        int, Meta(ge=1, le=3_600, description="seconds whose units may be used at once")
    ] = 5
    gateway_connections_of_an_address: Annotated[
        int, Meta(ge=0, description="connections that one address may have; 0, as behind a proxy, for any number")
    ] = 0
    gateway_docs: Annotated[
        bool, Meta(description="true: /docs and /openapi.json are there for everybody; false: they are not")
    ] = False
    gateway_host: Annotated[str, Meta(min_length=1, description="address that the gateway listens on")] = "127.0.0.1"
    gateway_port: Annotated[
        int, Meta(ge=0, le=65_535, description="port that the gateway listens on, 0 to 65535; 0 takes a free one")
    ] = 0
