"""What this version of the gateway asks of services, as data by which it and they can be judged.

    python -m api.announced      # that of the code here, as JSON

It writes that into the timeline's database, beside what the timeline says of itself (`streams.kit.announcing`).
"""

import sys
from pathlib import Path

import msgspec

from api.events import by_topic
from streams.kit.announcing import Announcement, code_of_the_kit
from streams.kit.language import Language


def announcement(language: Language) -> Announcement:
    """That of the gateway as the code has it now: it says requests, and hears nothing from the log.

    Raises `LanguageError` when the language has no such request.
    """
    says = {
        topic: {request.__name__: language.latest(topic, request.__name__).raw for request in requests}
        for topic, requests in by_topic().items()
    }
    code = [*sorted(Path(__file__).parent.rglob("*.py")), *code_of_the_kit()]
    return Announcement.of("gateway", code, says=says, hears={}, remembers={})


def main() -> None:
    sys.stdout.write(msgspec.json.encode(announcement(Language.load())).decode() + "\n")


if __name__ == "__main__":
    main()
