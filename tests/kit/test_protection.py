"""Tokens of personal text, and the master keys that wrap the keys of tokens. Pure."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.kit.errors import WrongSetting
from streams.kit.masters import Masters, NoSuchMaster, index_of
from streams.kit.protection import DataKey, Unreadable, is_protected, key_id

KEY = DataKey("AAAAAAAA", b"k" * 32)
OLD, NEW = "2026:" + "o" * 32, "2027:" + "n" * 32
texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=200)


@given(texts)
def test_every_text_that_a_field_may_hold_comes_back(text: str) -> None:
    token = KEY.protect("street", text)

    assert is_protected(token) and key_id(token) == KEY.id
    assert KEY.reveal("street", token) == text


def test_a_text_said_again_is_the_same_token() -> None:
    assert KEY.protect("street", "Main 1") == KEY.protect("street", "Main 1")


def test_tokens_of_two_persons_two_fields_or_two_texts_differ() -> None:
    tokens = {
        KEY.protect("street", "Main 1"),
        KEY.protect("city", "Main 1"),
        KEY.protect("street", "Main 2"),
        DataKey("BBBBBBBB", b"l" * 32).protect("street", "Main 1"),
    }

    assert len({token.rpartition(".")[2] for token in tokens}) == 4


def test_a_token_that_was_changed_anywhere_does_not_open() -> None:
    token = KEY.protect("street", "Main Street 1, backyard")
    sealed = token.rpartition(".")[2]
    for place in range(len(sealed) - 1):
        changed = "A" if sealed[place] != "A" else "B"
        with pytest.raises(Unreadable, match="it was changed"):
            KEY.reveal("street", f"pv1.{KEY.id}.{sealed[:place]}{changed}{sealed[place + 1:]}")


def test_a_token_in_another_field_or_of_another_key_does_not_open() -> None:
    token = KEY.protect("street", "Main 1")
    other = DataKey("BBBBBBBB", b"k" * 32)

    with pytest.raises(Unreadable):
        KEY.reveal("city", token)
    with pytest.raises(Unreadable, match="no token of the key BBBBBBBB"):
        other.reveal("street", token)
    with pytest.raises(Unreadable):
        other.reveal("street", token.replace("AAAAAAAA", "BBBBBBBB"))
    with pytest.raises(Unreadable):
        DataKey(KEY.id, b"x" * 32).reveal("street", token)


@pytest.mark.parametrize("text", ["", "Main 1", "pv1", "pv1.AAAAAAAA.", "pv1.AAAAAAAA.short", "pv1.AAA.", "pv2.x.y"])
def test_plain_text_is_no_token(text: str) -> None:
    assert not is_protected(text)


def test_a_key_does_not_show_its_secret() -> None:
    assert "k" * 32 not in repr(KEY) and str(KEY.secret) not in f"{KEY}"


def test_a_new_master_key_wraps_what_is_new_and_the_old_one_still_opens_what_is_old() -> None:
    before, both, after = Masters.read(OLD), Masters.read(f"{NEW}, {OLD}"), Masters.read(NEW)
    old = before.wrap(b"secret", "key-1")
    new = both.wrap(both.unwrap(old, "key-1"), "key-1")

    assert (old.master, new.master) == ("2026", "2027")
    assert after.unwrap(new, "key-1") == b"secret"
    with pytest.raises(NoSuchMaster, match="no master key '2026'"):
        after.unwrap(old, "key-1")


def test_a_wrapped_key_opens_neither_for_another_person_nor_with_another_secret_of_that_name() -> None:
    masters = Masters.read(OLD)
    wrapped = masters.wrap(b"secret", "key-1")

    with pytest.raises(NoSuchMaster, match="key-2 does not open"):
        masters.unwrap(wrapped, "key-2")
    with pytest.raises(NoSuchMaster):
        Masters.read("2026:" + "x" * 32).unwrap(wrapped, "key-1")
    with pytest.raises(NoSuchMaster):
        masters.unwrap(wrapped._replace(secret=wrapped.secret[:-1] + b"\0"), "key-1")


@pytest.mark.parametrize("setting", ["", "2027", "2027:short", f":{'x' * 32}", f"{OLD},{OLD}", f"{OLD},"])
def test_a_wrong_setting_of_master_keys_is_explained_without_repeating_a_secret(setting: str) -> None:
    with pytest.raises(WrongSetting, match="PAVANE_MASTER_KEYS") as told:
        Masters.read(setting)

    assert "o" * 32 not in str(told.value) and "short" not in str(told.value)


def test_persons_of_two_tenants_are_never_found_by_one_index() -> None:
    assert index_of(b"k", "a", "b/c") != index_of(b"k", "a/b", "c")
    assert index_of(b"k", "shop", "7") != index_of(b"other", "shop", "7")
