"""What PostgreSQL did, by its own statistics: statements, commits, rows written, bytes of write-ahead log.

Commits and the size of log records without page images are read out of the log itself (pg_walinspect): a statement
that is prepared on the client's side, such as COMMIT, escapes pg_stat_statements. Both extensions come with PostgreSQL.
A server of the user's own may lack them: then what they would tell is missing.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import psycopg

#: A connection that idles tells its statistics so late at most.
LATEST_SECONDS = 10.5

Rows = Mapping[tuple[str, str], int]


class Statistics(NamedTuple):
    """One look: where the write-ahead log ends, and how often each (database, statement) was called so far."""

    wal_end: str
    calls: Mapping[tuple[str, str], int]


class Use(NamedTuple):
    """What was done between two looks, by the server's databases that were asked about.

    `wal_bytes` is everything, `wal_record_bytes` without the images of whole pages that follow a checkpoint.
    `commits`: transactions that changed something. `calls`: by database and statement.
    """

    wal_bytes: int
    wal_record_bytes: int | None
    commits: int | None
    calls: Mapping[tuple[str, str], int]

    @property
    def statements(self) -> int | None:
        """How many statements were executed, but for BEGIN and COMMIT."""
        return sum(self.calls.values()) if self.calls else None

    def batches(self, database: str, tables: Iterable[str]) -> int:
        """How many transactions wrote to these tables, at least: the table that was written to by most of them counts.

        A transaction writes to a table once, alone or as one part of a statement that writes to several.
        """
        return max((self._inserts(database, table) for table in tables), default=0)

    def _inserts(self, database: str, table: str) -> int:
        into = re.compile(rf'INSERT INTO "?{re.escape(table)}"?[\s(]')
        mine = {statement: calls for (where, statement), calls in self.calls.items() if where == database}
        return sum(calls for statement, calls in mine.items() if into.search(statement))


def look(admin_url: str) -> Statistics:
    """Look at the server now."""
    with psycopg.connect(admin_url, autocommit=True) as connection:
        [(end,)] = connection.execute("SELECT pg_current_wal_insert_lsn()::text").fetchall()
        return Statistics(end, _calls(connection))


def between(admin_url: str, before: Statistics, after: Statistics, databases: Mapping[str, str]) -> Use:
    """What was done between two looks. `databases`: the names to tell, by the names that the server has."""
    calls = {}
    for (database, statement), count in after.calls.items():
        done = count - before.calls.get((database, statement), 0)
        # These two are seen only until they are prepared: no count at all is better than that one.
        if database in databases and done and statement not in ("BEGIN", "COMMIT"):
            calls[databases[database], statement] = done
    with psycopg.connect(admin_url, autocommit=True) as connection:
        words = (after.wal_end, before.wal_end)
        [(wal,)] = connection.execute("SELECT (%s::pg_lsn - %s::pg_lsn)::bigint", words).fetchall()
        records, commits = _inspected(connection, before.wal_end, after.wal_end)
    return Use(wal, records, commits, calls)


def rows_written(databases: Mapping[str, str]) -> dict[tuple[str, str], int]:
    """Rows inserted and updated so far, by database and table. What is ten seconds old is in it."""
    found = {}
    for name, url in databases.items():
        with psycopg.connect(url, autocommit=True) as connection:
            for table, rows in connection.execute("SELECT relname, n_tup_ins + n_tup_upd FROM pg_stat_user_tables"):
                found[name, table] = rows
    return found


def checkpoint(admin_url: str) -> None:
    """Begin from the same point: a page's first change after a checkpoint writes it whole into the log."""
    with psycopg.connect(admin_url, autocommit=True) as connection:
        connection.execute("CHECKPOINT")


def _calls(connection: psycopg.Connection[Any]) -> dict[tuple[str, str], int]:
    try:
        found = connection.execute(
            "SELECT d.datname, s.query, sum(s.calls)::bigint FROM pg_stat_statements s "
            "JOIN pg_database d ON d.oid = s.dbid GROUP BY d.datname, s.query"
        ).fetchall()
    except psycopg.Error:
        return {}
    return {(database, query): calls for database, query, calls in found}


def _inspected(connection: psycopg.Connection[Any], begin: str, end: str) -> tuple[int | None, int | None]:
    """Bytes of records without page images, and the number of commits."""
    try:
        connection.execute("CREATE EXTENSION IF NOT EXISTS pg_walinspect")
        rows = connection.execute(
            'SELECT "resource_manager/record_type", count, record_size FROM pg_get_wal_stats(%s, %s, true)',
            (begin, end),
        ).fetchall()
    except psycopg.Error:
        return None, None
    commits = sum(count for kind, count, _ in rows if kind == "Transaction/COMMIT")
    return int(sum(size for *_, size in rows)), int(commits)
