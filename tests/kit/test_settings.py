"""Settings are read once from the environment; a wrong one is named, with what it is for."""

import pytest

from streams.kit.errors import WrongSetting
from streams.kit.settings import WorkerSettings

RIGHT = {
    "PAVANE_KAFKA": "127.0.0.1:9092",
    "PAVANE_REGISTRY": "http://127.0.0.1:8080/apis/ccompat/v7",
    "PAVANE_DATABASE_BILLING": "postgresql://billing:secret@127.0.0.1/billing",
}


def test_what_is_not_set_has_its_default() -> None:
    settings = WorkerSettings.of("billing", RIGHT)
    assert settings.database == RIGHT["PAVANE_DATABASE_BILLING"]
    assert (settings.batch_records, settings.session_timeout_ms, settings.log_level) == (2_000, 10_000, "info")


def test_what_is_set_is_read_as_its_type() -> None:
    settings = WorkerSettings.of(
        "billing",
        {**RIGHT, "PAVANE_BATCH_RECORDS": "7", "PAVANE_DUE_POLL_SECONDS": "0.25", "PAVANE_LOG_LEVEL": "debug"},
    )
    assert (settings.batch_records, settings.due_poll_seconds, settings.log_level) == (7, 0.25, "debug")


def test_an_empty_variable_is_not_set() -> None:
    assert WorkerSettings.of("billing", {**RIGHT, "PAVANE_BATCH_RECORDS": ""}).batch_records == 2_000


@pytest.mark.parametrize("variable", RIGHT)
def test_a_missing_variable_is_named_with_what_it_is_for(variable: str) -> None:
    with pytest.raises(WrongSetting, match=rf"^{variable} \(.+\): is not set$"):
        WorkerSettings.of("billing", {name: value for name, value in RIGHT.items() if name != variable})


WRONG = {
    "PAVANE_KAFKA": ["", "x"],
    "PAVANE_REGISTRY": ["127.0.0.1:8080", "ftp://x"],
    "PAVANE_DATABASE_BILLING": ["", "mysql://x", "127.0.0.1"],
    "PAVANE_BATCH_RECORDS": ["0", "-1", "10001", "many", "1.5"],
    "PAVANE_QUEUE_RECORDS": ["0", "x"],
    "PAVANE_UNACKNOWLEDGED_FACTS": ["0", "x"],
    "PAVANE_OUTBOX_KEEP_SECONDS": ["-1", "x", "inf", "nan"],
    "PAVANE_DUE_POLL_SECONDS": ["0", "x", "inf", "nan"],
    "PAVANE_SESSION_TIMEOUT_MS": ["999", "x"],
    "PAVANE_MANAGEMENT_PORT": ["-1", "65536", "http"],
    "PAVANE_LOG_LEVEL": ["loud", "INFO"],
}


@pytest.mark.parametrize(("variable", "value"), [(name, value) for name, values in WRONG.items() for value in values])
def test_a_wrong_value_names_its_variable_and_what_it_is_for(variable: str, value: str) -> None:
    with pytest.raises(WrongSetting, match=rf"^{variable} \(.+\): .+"):
        WorkerSettings.of("billing", {**RIGHT, variable: value})


def test_a_wrong_value_is_told_with_what_is_allowed() -> None:
    with pytest.raises(WrongSetting, match=r"PAVANE_BATCH_RECORDS \(most records in one transaction\): .*`int` >= 1"):
        WorkerSettings.of("billing", {**RIGHT, "PAVANE_BATCH_RECORDS": "0"})


def test_a_password_is_not_shown_when_its_url_is_wrong() -> None:
    with pytest.raises(WrongSetting) as wrong:
        WorkerSettings.of("billing", {**RIGHT, "PAVANE_DATABASE_BILLING": "mysql://billing:secret@127.0.0.1/billing"})
    assert "secret" not in str(wrong.value)


def test_all_settings_but_the_addresses_have_defaults_and_all_say_what_they_are_for() -> None:
    for name in WorkerSettings.__struct_fields__:
        annotation = WorkerSettings.__annotations__.get(name) or WorkerSettings.__mro__[1].__annotations__[name]
        assert any(meta.description for meta in annotation.__metadata__), name
