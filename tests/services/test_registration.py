"""REGISTER, UNREGISTER, and what CONNECT makes of them."""

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from signal_gateway.domain.credential import CredentialKind
from signal_gateway.domain.errors import BadCredentials, ClientIdReserved, ClientIdTaken, ClientNotFound, RateLimited
from signal_gateway.domain.events import ClientUnregistered
from signal_gateway.domain.principal import LinkKind, Principal
from signal_gateway.services.registration import RegisterRequest
from signal_gateway.storage import devices
from tests.services.conftest import ADDRESS, CLIENT_TOKEN, ENROLMENT_KEY, OTHER_KEY, STARTED_MS, Services

CLIENT = CredentialKind.CLIENT
ENROLMENT = CredentialKind.ENROLMENT


async def record_of(services: Services, client_id: str) -> Any:
    return await services.database.database.read(lambda connection: devices.find_registration(connection, client_id))


async def test_the_record_is_on_disk_before_register_returns(autojump_clock: MockClock, services: Services):
    principal = await services.register(capabilities=["webrtc"], metadata={"platform": "esp32"}, room_id="room-1")

    record = await record_of(services, "agent-1")
    assert principal == Principal(LinkKind.AGENT, "agent-1", "config:agent-1", registered=True)
    assert (record.capabilities, record.metadata, record.room_id, record.version) == (["webrtc"], {"platform": "esp32"}, "room-1", "1.0.0")
    assert CLIENT_TOKEN.encode() not in record.token_digest
    assert (services.database.reads, services.writer.calls) == (1, 1)
    assert await services.audited() == [("register", "agent-1", "ok")]


async def test_the_same_token_registers_again_and_updates_the_same_record(autojump_clock: MockClock, services: Services):
    await services.register(capabilities=["webrtc"])
    assert (await services.register(capabilities=["heartbeat"])).registered

    assert (await record_of(services, "agent-1")).capabilities == ["heartbeat"]


async def test_a_known_id_with_another_valid_token_is_taken_and_with_a_wrong_one_refused(autojump_clock: MockClock, services: Services):
    await services.register("agent-7", ENROLMENT_KEY)

    with pytest.raises(ClientIdTaken):
        await services.register("agent-7", OTHER_KEY)
    with pytest.raises(BadCredentials):
        await services.register("agent-7", "wrong")
    assert await services.audited() == [
        ("register", "agent-7", "ok"),
        ("register", "agent-7", "client_id_taken"),
        ("register", "agent-7", "bad_credentials"),
    ]


ACCEPTED = {
    "open": {"anything", "enrolment", "configured", "issued"},
    "enrolment": {"enrolment", "configured", "issued"},
    "closed": {"configured", "issued"},
}


@pytest.mark.parametrize("registration", ACCEPTED)
@pytest.mark.parametrize("token", ["anything", "enrolment", "configured", "issued", "issued_to_other", "revoked", "expired"])
async def test_who_may_register_an_unknown_id(autojump_clock: MockClock, services: Services, registration: str, token: str):
    services.configure(registration)
    _, issued = await services.credentials.create(CLIENT, client_id="agent-1")
    _, other = await services.credentials.create(CLIENT, client_id="agent-2")
    revoked_id, revoked = await services.credentials.create(CLIENT, client_id="agent-1")
    _, expired = await services.credentials.create(CLIENT, client_id="agent-1", expires_at=STARTED_MS)
    await services.credentials.revoke(revoked_id)
    tokens = {"anything": "x", "enrolment": ENROLMENT_KEY, "configured": CLIENT_TOKEN, "issued": issued}
    tokens |= {"issued_to_other": other, "revoked": revoked, "expired": expired}

    if token in ACCEPTED[registration]:
        assert (await services.register(token=tokens[token])).registered
        assert (await services.authentication.agent("agent-1", tokens[token], ADDRESS)).registered
    else:
        with pytest.raises(BadCredentials):
            await services.register(token=tokens[token])
        assert await record_of(services, "agent-1") is None


async def test_open_registration_takes_the_first_token_for_an_id_and_no_other(autojump_clock: MockClock, services: Services):
    services.configure("open", api_keys=[])
    principal = await services.register("agent-3", "first")

    assert principal.credential_id == "registered:agent-3"
    with pytest.raises(ClientIdTaken):
        await services.register("agent-3", "second")
    with pytest.raises(BadCredentials):
        await services.authentication.agent("agent-3", "second", ADDRESS)
    assert await services.authentication.agent("agent-3", "first", ADDRESS) == principal


async def test_closed_registration_still_knows_its_records(autojump_clock: MockClock, services: Services):
    await services.register("agent-7", ENROLMENT_KEY)
    services.configure("closed")

    assert (await services.register("agent-7", ENROLMENT_KEY)).registered
    with pytest.raises(BadCredentials):
        await services.register("agent-8", ENROLMENT_KEY)


async def test_guessing_a_registered_clients_token_is_limited_also_where_any_token_is_valid(autojump_clock: MockClock, services: Services):
    services.configure("open")
    await services.register("agent-3", "first")

    for number in range(5):
        with pytest.raises(ClientIdTaken):
            await services.register("agent-3", f"guess-{number}")
    with pytest.raises(RateLimited):
        await services.register("agent-3", "first")


async def test_an_agent_cannot_take_the_id_of_a_phone_of_another_key(autojump_clock: MockClock, services: Services):
    await services.phone(ENROLMENT_KEY, "phone-1")

    with pytest.raises(ClientIdTaken):
        await services.register("phone-1", OTHER_KEY)
    with pytest.raises(BadCredentials):
        await services.phone(ENROLMENT_KEY, (await services.register("agent-7", OTHER_KEY)).client_id)


@pytest.mark.parametrize("registration", ["enrolment", "open"])
async def test_an_id_of_guests_is_for_nobody_who_comes_with_a_key(autojump_clock: MockClock, services: Services, registration: str):
    """Who has the link of a room names itself: it would be taken for a device of that id."""
    services.configure(registration, api_keys=[f"guest-2:{CLIENT_TOKEN}"], per_address_per_minute=0)
    _, issued = await services.credentials.create(CLIENT, client_id="guest-3")
    for client_id, token in (("guest-1", ENROLMENT_KEY), ("guest-2", CLIENT_TOKEN), ("guest-3", issued)):
        with pytest.raises(ClientIdReserved, match='"guest-" are for guests of rooms'):
            await services.register(client_id, token)
        assert await record_of(services, client_id) is None
    for client_id, token in (("guest-2", CLIENT_TOKEN), ("guest-3", issued)):
        with pytest.raises(ClientIdReserved):
            await services.authentication.agent(client_id, token, ADDRESS)
    assert (await services.audited())[-1] == ("connect", "guest-3", "reserved")
    with pytest.raises(BadCredentials):  # who has no right token learns nothing
        await services.authentication.agent("guest-2", "wrong", ADDRESS)


async def test_who_had_an_id_of_guests_before_keeps_it_and_no_guest_gets_it(
    autojump_clock: MockClock, services: Services, monkeypatch: pytest.MonkeyPatch
):
    with monkeypatch.context() as before:
        before.setattr(devices, "is_guest_id", lambda _: False)
        await services.register("guest-1", ENROLMENT_KEY)
        await services.phone(ENROLMENT_KEY, "guest-phone")

    assert (await services.register("guest-1", ENROLMENT_KEY)).registered
    assert (await services.authentication.agent("guest-1", ENROLMENT_KEY, ADDRESS)).registered
    assert (await services.phone(ENROLMENT_KEY, "guest-phone")).principal.client_id == "guest-phone"
    token = services.guests.issue("room-1", 60)
    for taken in ("guest-1", "guest-phone"):
        with pytest.raises(ClientIdTaken):
            await services.register(taken, token)
    assert (await services.register("guest-2", token)).room_id == "room-1"


async def test_agents_count_as_devices_of_their_enrolment_key_and_free_their_place(autojump_clock: MockClock, services: Services):
    _, key = await services.credentials.create(ENROLMENT, max_devices=1)
    await services.register("agent-7", key)
    with pytest.raises(BadCredentials):
        await services.register("agent-8", key)
    assert (await services.audited())[-1] == ("register", "agent-8", "max_devices")

    await services.registration.unregister("agent-7", key, ADDRESS)
    assert (await services.register("agent-8", key)).registered


@pytest.mark.parametrize("kind", [CLIENT, ENROLMENT])
async def test_a_revoked_key_behind_a_registration_no_longer_connects(autojump_clock: MockClock, services: Services, kind: CredentialKind):
    key_id, key = await services.credentials.create(kind, client_id="agent-2" if kind is CLIENT else None)
    await services.register("agent-2", key)
    assert (await services.authentication.agent("agent-2", key, ADDRESS)).credential_id == key_id

    await services.credentials.revoke(key_id)

    for attempt in (
        lambda: services.authentication.agent("agent-2", key, ADDRESS),
        lambda: services.register("agent-2", key),
        lambda: services.registration.unregister("agent-2", key, ADDRESS),
    ):
        with pytest.raises(BadCredentials):
            await attempt()


async def test_an_expired_client_key_ends_its_registration_and_an_expired_enrolment_key_does_not(
    autojump_clock: MockClock, services: Services
):
    _, token = await services.credentials.create(CLIENT, client_id="agent-2", expires_at=STARTED_MS + 1000)
    _, key = await services.credentials.create(ENROLMENT, expires_at=STARTED_MS + 1000)
    await services.register("agent-2", token)
    await services.register("agent-3", key)
    await trio.sleep(1)

    with pytest.raises(BadCredentials):
        await services.authentication.agent("agent-2", token, ADDRESS)
    assert (await services.authentication.agent("agent-3", key, ADDRESS)).registered
    with pytest.raises(BadCredentials):
        await services.register("agent-4", key)


async def test_a_token_removed_from_the_configuration_no_longer_stands_behind_a_registration(autojump_clock: MockClock, services: Services):
    await services.register("agent-1", CLIENT_TOKEN)
    await services.register("agent-7", ENROLMENT_KEY)
    services.configure(api_keys=[], enrolment_keys=[])

    for client_id, token in (("agent-1", CLIENT_TOKEN), ("agent-7", ENROLMENT_KEY)):
        with pytest.raises(BadCredentials):
            await services.authentication.agent(client_id, token, ADDRESS)


async def test_a_token_issued_for_the_client_replaces_a_revoked_one_and_no_other_token_does(autojump_clock: MockClock, services: Services):
    old_id, old = await services.credentials.create(CLIENT, client_id="agent-2")
    await services.register("agent-2", old)
    _, new = await services.credentials.create(CLIENT, client_id="agent-2")
    with pytest.raises(ClientIdTaken):
        await services.register("agent-2", new)  # while the old one stands

    await services.credentials.revoke(old_id)
    with pytest.raises(ClientIdTaken):
        await services.register("agent-2", ENROLMENT_KEY)
    assert (await services.register("agent-2", new)).registered
    await services.registration.unregister("agent-2", new, ADDRESS)


async def test_unregister_deletes_the_record_durably_tells_the_others_and_frees_the_id(autojump_clock: MockClock, services: Services):
    await services.register("agent-7", ENROLMENT_KEY)

    await services.registration.unregister("agent-7", ENROLMENT_KEY, ADDRESS)

    assert await record_of(services, "agent-7") is None
    assert services.of(ClientUnregistered) == [ClientUnregistered("agent-7")]
    assert (await services.audited())[-1] == ("unregister", "agent-7", "ok")
    with pytest.raises(BadCredentials):
        await services.authentication.agent("agent-7", ENROLMENT_KEY, ADDRESS)
    assert (await services.register("agent-7", OTHER_KEY)).registered


async def test_unregister_checks_the_token_before_it_looks_for_the_record(autojump_clock: MockClock, services: Services):
    with pytest.raises(BadCredentials):
        await services.registration.unregister("agent-9", "wrong", ADDRESS)
    with pytest.raises(BadCredentials):
        await services.registration.unregister("agent-1", "wrong", ADDRESS)
    with pytest.raises(ClientNotFound):
        await services.registration.unregister("agent-1", CLIENT_TOKEN, ADDRESS)
    assert [outcome for _, _, outcome in await services.audited()] == ["bad_credentials", "bad_credentials", "client_not_found"]
    assert services.of(ClientUnregistered) == []


async def test_unregister_needs_the_token_that_registered(autojump_clock: MockClock, services: Services):
    _, key = await services.credentials.create(CLIENT, client_id="agent-1")
    await services.register("agent-1", CLIENT_TOKEN)

    with pytest.raises(BadCredentials):
        await services.registration.unregister("agent-1", key, ADDRESS)
    assert await record_of(services, "agent-1") is not None


async def test_a_right_token_without_a_record_is_no_failed_attempt(autojump_clock: MockClock, services: Services):
    for _ in range(20):
        with pytest.raises(ClientNotFound):
            await services.registration.unregister("agent-1", CLIENT_TOKEN, ADDRESS)


async def test_of_many_that_register_one_id_at_once_one_wins(autojump_clock: MockClock, services: Services):
    keys = [(await services.credentials.create(ENROLMENT))[1] for _ in range(8)]
    outcomes: list[str] = []

    async def come(number: int) -> None:
        try:
            await services.register("agent-7", keys[number], address=f"192.0.2.{number}")
        except ClientIdTaken:
            outcomes.append("taken")
        else:
            outcomes.append("registered")

    async with trio.open_nursery() as nursery:
        for number in range(8):
            nursery.start_soon(come, number)

    assert sorted(outcomes) == ["registered"] + ["taken"] * 7


def test_a_request_does_not_show_its_token():
    assert "canary" not in repr(RegisterRequest(client_id="a", token="canary", version="1.0.0"))
