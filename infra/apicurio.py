"""Apicurio Registry, a Quarkus application, with its schemas in PostgreSQL so that their ids survive a restart."""

from __future__ import annotations

import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import unquote, urlsplit

from infra.jars import apicurio_folder, locked
from infra.java import java_command
from infra.processes import Child
from infra.server import HOST, Server, lean_environment

HEAP_MEGABYTES = 300
CONFLUENT_API = "/apis/ccompat/v7"


class Apicurio(Server):
    """One registry on one database, which it fills by itself at the first start."""

    name = "Apicurio Registry"
    #: The second port is Quarkus's management interface.
    ports_needed = 2

    def __init__(self, folder: Path, record: Path | None = None) -> None:
        super().__init__(folder)
        [jar] = locked("apicurio")
        self.version = jar.version
        #: Where it keeps its schemas, `postgresql://user:password@host:port/database`; set before `start`.
        self.database = ""
        self._record = record

    @property
    def address(self) -> str:
        return f"http://{HOST}:{self.port}{CONFLUENT_API}"

    def prepare(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)

    def launch(self) -> Child:
        return Child(
            "apicurio",
            [
                *java_command("apicurio", HEAP_MEGABYTES, self._record),
                *("-jar", str(apicurio_folder() / "quarkus-run.jar")),
            ],
            lean_environment(**self._settings()),
            self.log_file,
            cwd=self.folder,
        )

    def ask(self) -> str | None:
        try:
            with urllib.request.urlopen(f"{self.address}/subjects", timeout=5):
                return None
        except urllib.error.HTTPError as error:
            return f"it answers {error.code}"
        except OSError as error:
            return str(error)

    def _settings(self) -> dict[str, str]:
        database = urlsplit(self.database)
        return {
            "QUARKUS_HTTP_HOST": HOST,
            "QUARKUS_HTTP_PORT": str(self.ports[0]),
            "QUARKUS_MANAGEMENT_HOST": HOST,
            "QUARKUS_MANAGEMENT_PORT": str(self.ports[1]),
            "APICURIO_STORAGE_KIND": "sql",
            "APICURIO_STORAGE_SQL_KIND": "postgresql",
            "APICURIO_DATASOURCE_URL": f"jdbc:postgresql://{database.hostname}:{database.port or 5432}{database.path}",
            "APICURIO_DATASOURCE_USERNAME": unquote(database.username or ""),
            "APICURIO_DATASOURCE_PASSWORD": unquote(database.password or ""),
            "APICURIO_DATASOURCE_JDBC_INITIAL_SIZE": "2",
            "APICURIO_DATASOURCE_JDBC_MIN_SIZE": "2",
            "APICURIO_DATASOURCE_JDBC_MAX_SIZE": "10",
            "QUARKUS_OTEL_SDK_DISABLED": "true",
            "QUARKUS_BANNER_ENABLED": "false",
            "QUARKUS_LOG_LEVEL": "WARN",
            "QUARKUS_HTTP_ACCESS_LOG_ENABLED": "false",
        }
