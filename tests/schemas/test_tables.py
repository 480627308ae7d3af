"""A table has a column for every field of its row, of the fitting type, and no other: rows travel as JSON by name."""

import importlib
import subprocess
import sys
from datetime import datetime
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

import pytest
from sqlalchemy import BigInteger, Boolean, Column, DateTime, Integer, MetaData, Text
from sqlalchemy.dialects.postgresql import JSONB

from contracts.views import services
from streams.kit.events import State
from streams.kit.service import Service

SERVICES = tuple(services())
HEAVY = ("sqlalchemy", "alembic", "pydantic", "avro", "confluent_kafka", "fastapi")


def tables_of(service: Service) -> MetaData:
    metadata: MetaData = importlib.import_module(f"streams.{service.name}.tables").metadata
    return metadata


def fits(hint: Any, column: Column[Any], *, always_filled: bool) -> bool:
    """The column holds every value of the type, and null only where the type has None and a row may keep it."""
    optional = NoneType in get_args(hint)
    kind = next(option for option in get_args(hint) if option is not NoneType) if optional else hint
    if bool(column.nullable) is not optional and not (optional and always_filled):
        return False
    if kind is datetime:
        return isinstance(column.type, DateTime) and column.type.timezone
    if kind is bool:
        return isinstance(column.type, Boolean)
    if kind is int:
        return isinstance(column.type, Integer | BigInteger)
    if isinstance(kind, type) and get_origin(kind) is None and issubclass(kind, str):
        return isinstance(column.type, Text)
    return isinstance(column.type, JSONB)


@pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.name)
def test_tables_and_rows_hold_the_same(service: Service) -> None:
    tables = tables_of(service).tables
    assert set(tables) == {state.table for state in service.states}
    for state in service.states:
        columns = tables[state.table].columns
        hints = get_type_hints(state)
        assert set(columns.keys()) == set(state.__struct_fields__)
        assert [column.name for column in tables[state.table].primary_key] == [state.key]
        unfit = [
            name
            for name in state.__struct_fields__
            if not fits(hints[name], columns[name], always_filled=state.append_only)
        ]
        assert unfit == []


@pytest.mark.parametrize("state", [state for service in SERVICES for state in service.states], ids=lambda s: s.__name__)
def test_a_row_that_nothing_was_said_about_is_made_from_its_key(state: type[State]) -> None:
    assert state.new("k", 3).row_key == "k"


@pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.name)
def test_a_service_is_loaded_by_its_name_and_without_what_only_a_deploy_needs(service: Service) -> None:
    code = (
        f"import importlib, sys; service = importlib.import_module('streams.{service.name}').service; "
        f"assert service.name == {service.name!r}; print(*sorted(set({HEAVY!r}) & set(sys.modules)))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert loaded.stdout.split() == []
