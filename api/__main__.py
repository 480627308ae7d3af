"""`python -m api`: the gateway as a process (see `serving`)."""

import sys

from api.app import parts, served
from api.serving import listen, serve
from api.settings import GatewaySettings
from streams.kit.errors import PavaneError
from streams.kit.logs import set_up


def main() -> None:
    try:
        settings = GatewaySettings.read()
        set_up("gateway", settings.log_level)
        gateway = parts(settings)
        application = served(gateway, settings)
        listener = listen(settings.gateway_host, settings.gateway_port, "GATEWAY")
    except PavaneError as error:
        sys.exit(f"gateway: {error}")
    # Streams end by themselves then: they would go on until they are cut off.
    serve(application, listener, settings.gateway_connections_of_an_address, lambda: gateway.feed.hang_up())


if __name__ == "__main__":
    main()
