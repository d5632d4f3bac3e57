"""Accounts: opaque ids, whose a folder is, and who may change it."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from shpeft.errors import RunError, ShpeftError
from shpeft.runs.accounts import account_id
from shpeft.runs.owner import Account, check_may_change, may_change, owner_of, write_owner

READER, OTHER, ADMIN = Account("0" * 16), Account("1" * 16), Account("2" * 16, is_admin=True)


def test_an_id_depends_on_the_key_of_the_folder_and_tells_no_name(tmp_path: Path) -> None:
    first = account_id("https://idp.example", "reader", tmp_path / "a")
    assert first == account_id("https://idp.example", "reader", tmp_path / "a")
    assert first != account_id("https://idp.example", "reader", tmp_path / "b")
    assert first != account_id("https://idp.exampler", "eader", tmp_path / "a")
    key = tmp_path / "a" / ".accounts" / "key"
    assert len(key.read_bytes()) == 32
    if os.name == "posix":
        assert (key.stat().st_mode & 0o777, key.parent.stat().st_mode & 0o777) == (0o600, 0o700)


def test_many_at_once_get_one_key(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        ids = set(threads.map(lambda _: account_id("a", "b", tmp_path), range(32)))
    assert len(ids) == 1


def test_a_damaged_key_makes_no_new_accounts(tmp_path: Path) -> None:
    account_id("a", "b", tmp_path)
    (tmp_path / ".accounts" / "key").write_bytes(b"short")
    with pytest.raises(ShpeftError, match=r"is damaged\. Restore it"):
        account_id("a", "b", tmp_path)


def test_the_owner_and_administrators_may_change_a_folder(tmp_path: Path) -> None:
    write_owner(tmp_path, READER)
    assert owner_of(tmp_path) == READER.id
    assert [may_change(tmp_path, account) for account in (READER, OTHER, ADMIN, None)] == [True, False, True, True]
    with pytest.raises(RunError, match="The run first belongs to another account: you can use it, not change it"):
        check_may_change(tmp_path, OTHER, "The run first")


def test_a_folder_without_an_owner_is_changed_by_administrators_alone(tmp_path: Path) -> None:
    write_owner(tmp_path, None)
    assert list(tmp_path.iterdir()) == []
    assert [may_change(tmp_path, account) for account in (READER, ADMIN, None)] == [False, True, True]
    with pytest.raises(RunError, match="The run first has no owner"):
        check_may_change(tmp_path, READER, "The run first")


@pytest.mark.parametrize("text", ["", "{}", '{"format": "shpeft.owner/1", "owner": 1}', "[" * 100, "\x00"])
def test_a_damaged_file_gives_nobody_the_folder(tmp_path: Path, text: str) -> None:
    (tmp_path / "owner.json").write_text(text)
    assert [may_change(tmp_path, account) for account in (READER, Account(""), ADMIN)] == [False, False, True]
