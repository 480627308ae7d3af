"""The jars: right sums, no needless work, nothing half-done left behind."""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
import tarfile
from collections.abc import Iterable
from pathlib import Path

import pytest

from infra import jars
from infra.errors import CorruptJar, DiskFull, DownloadFailed
from infra.jars import Jar, ensure

LAMP = Jar("kafka", "shop:lamp:1.0", hashlib.sha256(b"lamp").hexdigest())


class Repository:
    """Gives these bytes for every jar, one after the other, and counts how often it was asked."""

    def __init__(self, *answers: bytes | Exception) -> None:
        self.answers = list(answers)
        self.asked = 0

    def __call__(self, wanted: Iterable[Jar], folder: Path) -> None:
        self.asked += 1
        answer = self.answers.pop(0)
        for jar in wanted:
            if isinstance(answer, Exception):
                (folder / jar.file_name).write_bytes(b"la")
                raise answer
            (folder / jar.file_name).write_bytes(answer)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PAVANE_CACHE", str(tmp_path))
    return tmp_path


def test_the_lock_names_coordinates_and_sums_and_no_address() -> None:
    text = jars.LOCK_FILE.read_text()
    kafka, apicurio = jars.locked("kafka"), jars.locked("apicurio")

    assert "://" not in text
    assert f"{jars.KAFKA} " in text
    assert [jar.coordinates for jar in apicurio] == [jars.APICURIO]
    assert all(len(jar.sha256) == 64 for jar in (*kafka, *apicurio))


def test_kafkas_own_jars_all_have_one_version() -> None:
    versions = {jar.version for jar in jars.locked("kafka") if jar.coordinates.startswith("org.apache.kafka:")}

    assert versions == {"4.3.1"}


def test_a_jar_that_is_there_is_neither_fetched_nor_read_again(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ensure([LAMP], cache, Repository(b"lamp"))
    monkeypatch.setattr(jars, "_sha256", lambda path: pytest.fail(f"{path} was read"))

    assert ensure([LAMP], cache, Repository()) == [cache / "lamp-1.0.jar"]


def test_a_corrupt_jar_is_fetched_again_once(cache: Path) -> None:
    repository = Repository(b"lump", b"lamp")

    [path] = ensure([LAMP], cache, repository)

    assert (path.read_bytes(), repository.asked) == (b"lamp", 2)


def test_a_jar_that_comes_corrupt_twice_is_refused_and_not_kept(cache: Path) -> None:
    with pytest.raises(CorruptJar, match=r"shop:lamp:1\.0 .* twice .* infra/jars\.lock"):
        ensure([LAMP], cache, Repository(b"lump", b"lump"))

    assert not list(cache.rglob("*.jar"))


def test_a_jar_that_changed_in_the_cache_is_replaced(cache: Path) -> None:
    [path] = ensure([LAMP], cache, Repository(b"lamp"))
    path.write_bytes(b"lump")

    ensure([LAMP], cache, Repository(b"lamp"))

    assert path.read_bytes() == b"lamp"


def test_a_jar_that_was_only_touched_is_read_but_not_fetched(cache: Path) -> None:
    [path] = ensure([LAMP], cache, Repository(b"lamp"))
    path.touch()

    assert ensure([LAMP], cache, Repository()) == [path]


def test_a_half_written_download_leaves_nothing(cache: Path) -> None:
    with pytest.raises(DownloadFailed):
        ensure([LAMP], cache, Repository(DownloadFailed("lamp", "the line went dead")))

    assert not list(cache.rglob("*.jar"))
    assert ensure([LAMP], cache, Repository(b"lamp"))[0].read_bytes() == b"lamp"


def test_a_download_needs_room(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jars, "NEEDED_BYTES", 10**18)

    with pytest.raises(DiskFull, match="Make room"):
        ensure([LAMP], cache, Repository(b"lamp"))


def test_without_network_the_message_says_what_to_do(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")

    with pytest.raises(DownloadFailed, match=r"cannot be reached.*Check the network") as failed:
        ensure([LAMP], cache)

    assert "http" not in str(failed.value).replace("HTTPS_PROXY", "")


def test_a_damaged_registry_is_unpacked_again(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = _tar_of({"quarkus-run.jar": b"run", "lib/a.jar": b"library"})
    registry = Jar("apicurio", "shop:registry:1.0:all:tar.gz", hashlib.sha256(packed).hexdigest())
    repository = Repository(packed, packed)
    monkeypatch.setattr(jars, "locked", lambda part: [registry])
    monkeypatch.setattr(jars, "_download", repository)
    library = jars.apicurio_folder() / "lib" / "a.jar"
    library.write_bytes(b"lib")

    jars.apicurio_folder()

    assert (library.read_bytes(), repository.asked) == (b"library", 2)


def test_a_start_imports_nothing_that_downloads_or_warns() -> None:
    script = "import sys, infra.stack; print(*sorted({'jgo', 'platformdirs', 'requests'} & set(sys.modules)))"

    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert (ran.stdout.strip(), ran.stderr) == ("", "")


def _tar_of(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()
