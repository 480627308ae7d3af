"""What takes all the room that a small disk has."""

from pathlib import Path

CHUNK = b"\0" * 4096
#: The system's words when there is none.
NO_ROOM = "No space left on device"


class Ballast:
    """A file, for as long as there shall be no room beside it."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def fill(self) -> None:
        """Not a byte is free any more."""
        with self._file.open("ab", buffering=0) as ballast:
            try:
                while True:
                    ballast.write(CHUNK)
            except OSError as error:
                assert NO_ROOM in str(error)

    def take_away(self) -> None:
        self._file.unlink(missing_ok=True)
