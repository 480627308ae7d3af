"""Tokens as an operator is shown them: that something personal stands there, and whether anybody can still read it."""


import psycopg

from streams.kit.protection import TOKEN

PROTECTED, FORGOTTEN = "(personal, protected)", "(forgotten)"
CONNECT_TIMEOUT_SECONDS = 5


async def without_tokens(text: str, keys_url: str) -> str:
    """The text with words in place of tokens. `keys_url`: of the database of keys; without it, none is forgotten."""
    ids = {found[1] for found in TOKEN.finditer(text)}
    gone = await _destroyed(ids, keys_url) if ids and keys_url else set()
    return TOKEN.sub(lambda found: FORGOTTEN if found[1] in gone else PROTECTED, text)


async def _destroyed(ids: set[str], url: str) -> set[str]:
    """Which of these keys are destroyed; none, when nobody can be asked."""
    try:
        async with await psycopg.AsyncConnection.connect(url, connect_timeout=CONNECT_TIMEOUT_SECONDS) as connection:
            cursor = await connection.execute(
                "SELECT id FROM data_keys WHERE id = ANY(%s) AND destroyed_at IS NOT NULL", (list(ids),)
            )
            return {key for (key,) in await cursor.fetchall()}
    except psycopg.Error:
        return set()
