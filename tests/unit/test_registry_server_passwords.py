"""Users of the registry server, while their file changes."""

from __future__ import annotations

from pathlib import Path

import anyio
import bcrypt
import pytest

from hooper_registry_server.auth import Passwords

pytestmark = pytest.mark.anyio


def write(path: Path, cost: int, **users: str) -> None:
    path.write_text(
        "".join(f"{u}:{bcrypt.hashpw(word.encode(), bcrypt.gensalt(cost)).decode()}\n" for u, word in users.items())
    )


async def test_a_password_that_is_replaced_while_it_is_looked_at_is_not_remembered(tmp_path: Path) -> None:
    users = tmp_path / "htpasswd"
    write(users, 12, ann="old")
    passwords = Passwords(users)
    async with anyio.create_task_group() as group:
        group.start_soon(passwords.check, "ann", "old")
        await anyio.sleep(0.01)
        write(users, 4, ann="new", bob="bob")
        assert await passwords.check("ann", "new")
    assert not await passwords.check("ann", "old")


async def test_who_is_not_listed_has_no_password(tmp_path: Path) -> None:
    users = tmp_path / "htpasswd"
    write(users, 4, ann="secret")
    passwords = Passwords(users)
    assert await passwords.check("ann", "secret")
    assert not await passwords.check("bob", "secret")
    users.write_text("")
    assert not await passwords.check("ann", "secret")
    assert not await passwords.check("", "")
