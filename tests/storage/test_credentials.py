"""Keys on disk."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
from sqlalchemy import Connection, create_engine

from signal_gateway.domain.credential import Credential, CredentialKind
from signal_gateway.storage import credentials
from signal_gateway.storage.credentials import Endings
from signal_gateway.storage.engine import ENGINE_OPTIONS
from signal_gateway.storage.tables import metadata

from .sqlite_steps import steps

NOTHING = Endings((0, 0), frozenset(), frozenset())
KEY = Credential("key-1", CredentialKind.CLIENT, b"1" * 32, "hall", "agent-1", "fleet", 5, 100, 200, None)


@pytest.fixture
def connection() -> Iterator[Connection]:
    engine = create_engine("sqlite://", **ENGINE_OPTIONS)
    with engine.connect() as opened:
        metadata.create_all(opened)
        yield opened
    engine.dispose()


def device_key(name: str) -> Credential:
    return Credential(name, CredentialKind.DEVICE, b"1" * 32, client_id="phone-1", created_at=100)


def live(connection: Connection) -> list[str]:
    return sorted(key.id for key in credentials.find_all(connection) if key.revoked_at is None)


def test_a_key_is_read_as_it_was_kept_newest_first(connection: Connection):
    newer = replace(KEY, id="key-2", created_at=101)
    for key in (KEY, newer):
        credentials.keep(connection, key)

    assert credentials.find(connection, "key-1") == KEY
    assert credentials.find(connection, "key-3") is None
    assert credentials.find_all(connection) == [newer, KEY]


def test_endings_are_what_was_revoked_and_what_ended_by_time(connection: Connection):
    credentials.keep(connection, KEY)
    credentials.keep(connection, replace(KEY, id="key-2", expires_at=None))
    credentials.keep(connection, replace(KEY, id="key-3", kind=CredentialKind.ENROLMENT))
    assert credentials.find_endings(connection, NOTHING, 100, 199) == NOTHING

    credentials.revoke(connection, "key-2", "cli", 7)
    found = credentials.find_endings(connection, NOTHING, 199, 200)

    assert found == Endings((1, 7), frozenset({"key-2"}), frozenset({"key-1"}))
    assert credentials.find_endings(connection, found, 200, 300) == replace(found, expired=frozenset())


def test_a_look_for_ended_keys_does_not_grow_with_those_that_last(connection: Connection):
    def look(connection: Connection) -> object:
        return credentials.find_endings(connection, NOTHING, 1000, 1001)

    credentials.keep(connection, KEY)
    before = steps(connection, look)
    for number in range(300):
        credentials.keep(connection, replace(KEY, id=f"lasting-{number}", expires_at=None if number % 2 else 5000 + number))
    assert steps(connection, look) <= 1.2 * before


def test_a_device_has_one_key_in_use_and_one_that_waits_for_its_first_use(connection: Connection):
    for name in ("a", "b", "c"):
        credentials.keep_device_key(connection, device_key(name))
    assert live(connection) == ["a", "c"]

    newest = credentials.find(connection, "c")
    assert newest is not None
    assert newest.created_at == 101  # later than the first, though made in the same millisecond
    assert credentials.settle_keys(connection, "c", 300) == ["a"]
    assert live(connection) == ["c"]
    assert credentials.settle_keys(connection, "c", 400) == []
    assert credentials.settle_keys(connection, "nobody", 300) == []
    used = credentials.find(connection, "c")
    assert used is not None
    assert used.used_at == 300
