"""Somebody at the terminal says yes before anything is changed."""

import asyncio
import sys

import typer

from pavane.operators.errors import NotAsked


async def agreed(question: str) -> bool:
    """Whether the person at the terminal says yes. Raises `NotAsked` when nobody is there."""
    if not sys.stdin.isatty():
        raise NotAsked("nobody is there to agree: say --yes to do it without being asked, or --dry-run to look")
    # In a thread, so that Ctrl-C is heard while the question stands.
    return await asyncio.to_thread(typer.confirm, question)
