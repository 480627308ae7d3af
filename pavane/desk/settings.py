"""What the desk process is given, beside the databases of all services (`PAVANE_DATABASE_<SERVICE>`)."""

from typing import Annotated

from msgspec import Meta

from api.settings import Jwks, TokenAudience, TokenIssuer
from api.tokens import AUDIENCE, ISSUER
from streams.kit.settings import Settings


class DeskSettings(Settings, frozen=True, kw_only=True):
    """Tokens as the gateway takes them; where gateways reach it."""

    jwks: Jwks
    token_issuer: TokenIssuer = ISSUER
    token_audience: TokenAudience = AUDIENCE
    desk_host: Annotated[str, Meta(min_length=1, description="address that the desk listens on")] = "127.0.0.1"
    desk_port: Annotated[
        int, Meta(ge=0, le=65_535, description="port that the desk listens on, 0 to 65535; 0 takes a free one")
    ] = 0
