"""`python -m pavane.desk`: the operators' desk as a process (see `api.serving`)."""

import sys
from pathlib import Path

from api.serving import listen, serve
from api.tokens import Verifier
from infra.errors import InfraError
from pavane.desk.app import application
from pavane.desk.settings import DeskSettings
from pavane.operators.reach import Reach
from streams.kit.errors import PavaneError
from streams.kit.logs import set_up

DATA = Path(".data")


def main() -> None:
    try:
        settings = DeskSettings.read()
        reach = Reach.at(DATA)
        set_up("desk", settings.log_level)
        verifier = Verifier.of(settings.jwks, settings.token_issuer, settings.token_audience)
        listener = listen(settings.desk_host, settings.desk_port, "DESK")
    except (PavaneError, InfraError) as error:
        sys.exit(f"desk: {error}")
    serve(application(reach, verifier), listener)


if __name__ == "__main__":
    main()
