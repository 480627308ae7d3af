"""The worker's statements: what is read of a state's table, and a whole batch as one statement.

Made once a state, or once for the set of states that a batch changes, and handed to the client as bytes, by which it
finds what it has parsed before.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
from psycopg import sql

from streams.kit.columns import arrays, types_of
from streams.kit.events import State
from streams.kit.rows import Changes
from streams.kit.store import Move

_facts = msgspec.msgpack.Encoder()
_selects: dict[type[State], bytes] = {}
_saves: dict[type[State], sql.Composed] = {}


def select(state: type[State]) -> bytes:
    """Rows by key as one JSON text; shared rows locked in key order, so that workers wait instead of deadlocking.

    A row that is not there yet cannot be locked: two batches that make the same rows may still be `Deadlocked`.
    """
    if state not in _selects:
        clause = 'ORDER BY {key} COLLATE "C" FOR UPDATE' if state.shared else ""
        lock = sql.SQL(clause).format(key=sql.Identifier(state.key))
        statement = sql.SQL(
            "SELECT coalesce(json_agg(r), '[]')::text "
            "FROM (SELECT * FROM {table} WHERE {key} = ANY(%b::text[]) {lock}) r"
        )
        places = {"table": sql.Identifier(state.table), "key": sql.Identifier(state.key), "lock": lock}
        _selects[state] = statement.format(**places).as_bytes(None)
    return _selects[state]


def everything(moves: Sequence[Move], changes: Sequence[Changes]) -> tuple[bytes, list[Any]]:
    """A batch's commit as one statement: lanes moved under their epochs, rows saved, facts written to the outbox.

    All of it or nothing, whichever part is done first: PostgreSQL promises no order among them. (It moves the lanes
    first, so batches of one lane do not even begin to write at once.)
    """
    said = [move.draft for move in moves if move.draft.said]
    parameters: list[Any] = [array for change in changes for array in arrays(*change)]
    if said:
        parameters.append([draft.lane.partition for draft in said])
        parameters.append([draft.lane.row + 1 for draft in said])
        parameters.append([_facts.encode(draft.said) for draft in said])
    parameters.append(_moved(moves))
    shape = (*(change.state for change in changes), bool(said))
    if shape not in _shapes:
        parts = [
            sql.SQL("{} AS ({})").format(sql.Identifier(f"_{change.state.table}"), save(change.state))
            for change in changes
        ]
        parts += [_SAY] if said else []
        first = sql.SQL("WITH {} ").format(sql.SQL(", ").join(parts)) if parts else sql.SQL("")
        _shapes[shape] = (first + sql.SQL("SELECT move_lanes(%s)")).as_bytes(None)
    return _shapes[shape], parameters


_SAY = sql.Composed(
    [
        sql.SQL(
            "_said AS (INSERT INTO outbox (partition, number, facts) "
            "SELECT * FROM unnest(%s::int[], %s::bigint[], %b::bytea[]))"
        )
    ]
)
_shapes: dict[tuple[Any, ...], bytes] = {}


def save(state: type[State]) -> sql.Composed:
    """Write `arrays` of rows: own rows replace, shared rows add their numbers, append-only rows are written once.

    Columns that this version does not know are left alone: a new row has their default.
    """
    if state not in _saves:
        columns = [name for name in state.__struct_fields__ if name != state.key]
        numbers = {field.name for field in msgspec.structs.fields(state) if field.type is int}
        assign = "{c} = {t}.{c} + excluded.{c}", "{c} = excluded.{c}"
        assignments = sql.SQL(", ").join(
            sql.SQL(assign[0] if state.shared and name in numbers else assign[1]).format(
                c=sql.Identifier(name), t=sql.Identifier(state.table)
            )
            for name in columns
        )
        action = sql.SQL("DO NOTHING") if state.append_only else sql.SQL("DO UPDATE SET {}").format(assignments)
        _saves[state] = sql.SQL(
            "INSERT INTO {table} ({known}) SELECT * FROM unnest({arrays}) ON CONFLICT ({key}) {action}"
        ).format(
            table=sql.Identifier(state.table),
            known=sql.SQL(", ").join(map(sql.Identifier, state.__struct_fields__)),
            arrays=sql.SQL(", ").join(sql.SQL(f"%s::{kind}[]") for kind in types_of(state)),
            key=sql.Identifier(state.key),
            action=action,
        )
    return _saves[state]


def _moved(moves: Sequence[Move]) -> str:
    return msgspec.json.encode(
        [
            {
                "partition": draft.lane.partition,
                "epoch": draft.lane.epoch,
                "positions": draft.positions,
                "clock": draft.clock,
                "outbox_row": draft.lane.row + bool(draft.said),
                "acknowledged": acknowledged,
            }
            for draft, acknowledged in moves
        ]
    ).decode()
