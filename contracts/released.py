"""Which versions are released, and whether one of them has changed since.

    schemas/released.lock       a line a released file, as `sha256sum --check` reads it

A released version was pushed to a registry or may have been: somebody reads by it, and records written in it are in the
log for ever. `pavane schemas release` adds the files that are new; what is in the lock never changes.
"""

import hashlib
from pathlib import Path

from contracts.finding import Finding
from streams.kit.language import Language, Schema

LOCK = "released.lock"
RELEASE = "pavane schemas release"


def check(language: Language) -> list[Finding]:
    """The released files that have changed or gone; nothing about those that are not released yet."""
    root, found = _root(language), []
    for file, digest in _lock(root).items():
        if not (root / file).exists():
            what = "was released and is gone: records in the log are written in it."
            found.append(Finding(str(root / file), what, "Restore it: 'git checkout' has it."))
        elif _digest(root / file) != digest:
            what = "was released and has changed: registries and consumers have it as it was."
            remedy = "Restore it ('git checkout' has it), and write the change as a file with the next number."
            found.append(Finding(str(root / file), what, remedy))
    return found


def unreleased(language: Language) -> list[Schema]:
    """The versions that may still change."""
    root = _root(language)
    lock = _lock(root)
    return [schema for schema in language if schema.file.relative_to(root).as_posix() not in lock]


def not_released(language: Language) -> list[Finding]:
    """The same, as what is wrong with giving them to others."""
    return [
        Finding(str(schema.file), "is not released, and this registry is not yours alone.", f"Run '{RELEASE}'.")
        for schema in unreleased(language)
    ]


def release(language: Language) -> list[Schema]:
    """From now on all versions are released; returns those that were not. The caller has checked them."""
    root, new = _root(language), unreleased(language)
    lines = _lock(root) | {schema.file.relative_to(root).as_posix(): _digest(schema.file) for schema in new}
    text = "".join(f"{digest}  {file}\n" for file, digest in sorted(lines.items()))
    (root / LOCK).write_text(text, encoding="utf-8")
    return new


def _root(language: Language) -> Path:
    return next(iter(language)).file.parents[1]


def _lock(root: Path) -> dict[str, str]:
    """By file: its digest when it was released. Nothing where there is no lock."""
    file = root / LOCK
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    return {path: digest for digest, _, path in (line.partition("  ") for line in lines)}


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
