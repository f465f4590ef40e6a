"""Devices and client records on disk."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
from sqlalchemy import Connection, create_engine, event

from signal_gateway.domain.credential import Credential, CredentialKind
from signal_gateway.domain.device import DeviceDescription
from signal_gateway.storage import credentials, devices
from signal_gateway.storage.devices import ClientRecord, Vouch
from signal_gateway.storage.engine import ENGINE_OPTIONS
from signal_gateway.storage.tables import metadata

KEY = Credential("key-1", CredentialKind.ENROLMENT, b"1" * 32)
RECORD = ClientRecord("agent-1", b"t" * 32, "key-1", "1.0.0", ["webrtc"], {"platform": "esp32"}, "room-1")


@pytest.fixture
def connection() -> Iterator[Connection]:
    engine = create_engine("sqlite://", **ENGINE_OPTIONS)
    with engine.connect() as opened:
        metadata.create_all(opened)
        yield opened
    engine.dispose()


def statements_of(connection: Connection) -> list[str]:
    seen: list[str] = []
    event.listen(connection, "before_cursor_execute", lambda c, cursor, statement, *rest: seen.append(statement))
    return seen


def test_a_phone_at_the_door_is_one_statement_whether_known_or_not(connection: Connection):
    credentials.keep(connection, KEY)
    devices.enrol(connection, devices.new_device("phone-1", "phone", "key-1"), KEY, 1)
    seen = statements_of(connection)

    known = devices.find_phone(connection, "phone-1", "key-1")
    unknown = devices.find_phone(connection, "phone-2", "-")

    assert len(seen) == 2
    assert seen[0] == seen[1]
    assert (known.credential, known.device and known.device.credential_id) == (KEY, "key-1")
    assert (unknown.credential, unknown.device, unknown.older_device_keys) == (None, None, 0)


def test_an_agent_at_the_door_is_one_statement_and_shows_the_key_behind_its_record(connection: Connection):
    credentials.keep(connection, KEY)
    devices.register(connection, RECORD, Vouch(enrolled_by=KEY), 1)
    seen = statements_of(connection)

    known = devices.find_client(connection, "agent-1", "-")
    unknown = devices.find_client(connection, "agent-2", "key-1")

    assert len(seen) == 2
    assert (known.credential, known.token_digest, known.credential_id, known.holder) == (None, b"t" * 32, "key-1", KEY)
    assert (unknown.credential, unknown.token_digest, unknown.holder) == (KEY, None, None)


def test_enrolling_decides_on_what_is_on_disk_now(connection: Connection):
    credentials.keep(connection, KEY)
    as_it_was_read = KEY
    assert devices.enrol(connection, devices.new_device("a", "phone", "key-1"), as_it_was_read, 1) is None
    assert devices.enrol(connection, devices.new_device("a", "phone", "key-1"), as_it_was_read, 1) is None
    assert devices.enrol(connection, devices.new_device("a", "phone", "key-2"), None, 1) == "bound_elsewhere"

    credentials.revoke(connection, "key-1", "cli", 2)
    assert devices.enrol(connection, devices.new_device("b", "phone", "key-1"), as_it_was_read, 3) == "revoked"
    assert devices.find_device(connection, "b") is None


@pytest.mark.parametrize(
    ("limits", "refusal"), [({"max_devices": 0}, "max_devices"), ({"expires_at": 5}, "expired"), ({"expires_at": 6}, None)]
)
def test_a_full_or_expired_key_brings_in_nobody_new(connection: Connection, limits: dict[str, int], refusal: str | None):
    key = replace(KEY, **limits)
    credentials.keep(connection, key)

    assert devices.enrol(connection, devices.new_device("a", "phone", "key-1"), key, 5) == refusal


def test_texts_too_long_for_their_columns_are_cut(connection: Connection):
    said = DeviceDescription("a", "q" * 300, sitename="s" * 300, model="m" * 300)

    record = devices.described(devices.new_device("a", "phone", None), said, None)

    assert (len(record.queue_name or ""), len(record.sitename or ""), len(record.model or "")) == (255, 128, 128)


def test_a_record_yields_only_to_a_token_that_may_replace_it(connection: Connection):
    devices.register(connection, RECORD, Vouch(), 1)
    other = replace(RECORD, token_digest=b"o" * 32, credential_id="key-2")

    assert devices.register(connection, other, Vouch(issued=True), 2) == "client_id_taken"
    assert devices.find_registration(connection, "agent-1") == RECORD
    assert devices.register(connection, other, Vouch(issued=True, may_replace=True), 2) is None
    assert devices.find_registration(connection, "agent-1") == other
    device = devices.find_device(connection, "agent-1")
    assert device is not None
    assert device.credential_id == "key-2"


def test_an_issued_token_registers_the_id_of_a_phone_whose_device_stays_when_it_unregisters(connection: Connection):
    devices.enrol(connection, devices.new_device("agent-1", "phone", "key-9"), None, 1)

    assert devices.register(connection, RECORD, Vouch(), 2) == "bound_elsewhere"
    assert devices.register(connection, RECORD, Vouch(issued=True), 2) is None
    assert not devices.unregister(connection, "agent-1", b"x" * 32)
    assert devices.unregister(connection, "agent-1", RECORD.token_digest)
    device = devices.find_device(connection, "agent-1")
    assert device is not None
    assert (device.kind, device.credential_id) == ("phone", "key-9")
