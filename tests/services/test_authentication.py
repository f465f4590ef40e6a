"""Phones and agents at the door."""

from typing import Any

import pytest
import trio
from sqlalchemy import update
from trio.testing import MockClock

from signal_gateway.domain.credential import CredentialKind
from signal_gateway.domain.errors import BadCredentials, ClientIdReserved, RateLimited
from signal_gateway.domain.events import CredentialRevoked
from signal_gateway.domain.phone_settings import PhoneSettings
from signal_gateway.domain.principal import LinkKind, Principal
from signal_gateway.services.authentication import AuthSettings
from signal_gateway.storage import credentials as stored_keys
from signal_gateway.storage import devices
from signal_gateway.storage.tables import devices as device_table
from tests.services.conftest import ADDRESS, CLIENT_TOKEN, ENROLMENT_KEY, OTHER_KEY, STARTED_MS, Services

ENROLMENT = CredentialKind.ENROLMENT
CLIENT = CredentialKind.CLIENT


async def refusal_of(attempt: Any) -> str:
    with pytest.raises(BadCredentials) as caught:
        await attempt
    return str(caught.value)


async def test_a_new_phone_is_enrolled_with_one_read_and_one_durable_write(autojump_clock: MockClock, services: Services):
    admission = await services.phone()

    assert admission.principal == Principal(LinkKind.PHONE, "phone-1", "config:demo")
    assert admission.settings == PhoneSettings(error_count_threshold=7)
    assert admission.device_key is None
    assert (services.database.reads, services.writer.calls) == (1, 1)
    assert await services.audited() == [("enrol", "phone-1", "ok")]


async def test_a_phone_gets_the_settings_of_all_phones_with_what_was_changed_for_it(autojump_clock: MockClock, services: Services):
    await services.phone()
    changes = {"battery_low_threshold": 5}
    await services.database.write(lambda connection: connection.execute(update(device_table).values(settings=changes)))

    assert (await services.phone()).settings == PhoneSettings(error_count_threshold=7, battery_low_threshold=5)


async def test_a_known_phone_costs_one_read_and_no_write(autojump_clock: MockClock, services: Services):
    await services.phone(model="Galaxy", info={"model": "Galaxy"})
    services.database.reads = services.writer.calls = 0
    services.writer.rows.clear()

    await services.phone(model="Galaxy", info={"model": "Galaxy"})

    assert (services.database.reads, services.database.writes, services.writer.calls, services.writer.rows) == (1, 0, 0, [])


async def test_a_changed_description_is_written_and_what_it_leaves_out_stays(autojump_clock: MockClock, services: Services):
    await services.phone(model="Galaxy", sitename="north", info={"imei": "490154203237518"})

    await services.phone(model="Pixel")

    await services.settle()
    record = await services.database.read(lambda connection: devices.find_device(connection, "phone-1"))
    assert (record.model, record.sitename) == ("Pixel", "north")
    assert "490154203237518" not in record.info
    assert '"7518"' in record.info


async def test_a_device_bound_to_another_key_is_refused_and_the_same_pair_connects_for_ever(autojump_clock: MockClock, services: Services):
    await services.phone(ENROLMENT_KEY)

    assert await refusal_of(services.phone(OTHER_KEY)) == "Invalid client_id or auth_token"
    assert (await services.phone(ENROLMENT_KEY)).principal.credential_id == "config:demo"
    assert (await services.audited())[-1] == ("connect", "phone-1", "bound_elsewhere")


async def test_max_devices_and_expiry_bar_new_devices_only_and_revocation_bars_all(autojump_clock: MockClock, services: Services):
    key_id, key = await services.credentials.create(ENROLMENT, max_devices=2, device_group="fleet", expires_at=STARTED_MS + 60_000)
    await services.phone(key, "a")
    await services.phone(key, "b")
    await refusal_of(services.phone(key, "c"))
    assert (await services.audited())[-1] == ("enrol", "c", "max_devices")

    await trio.sleep(60)
    assert (await services.phone(key, "a")).principal.credential_id == key_id
    await refusal_of(services.phone(key, "d"))
    assert (await services.audited())[-1] == ("connect", "d", "expired")

    await services.credentials.revoke(key_id)
    await refusal_of(services.phone(key, "a"))
    assert (await services.audited())[-1] == ("connect", "a", "revoked")


async def test_of_many_phones_that_race_for_the_last_place_exactly_one_gets_it(autojump_clock: MockClock, services: Services):
    _, key = await services.credentials.create(ENROLMENT, max_devices=3)
    outcomes: list[str] = []

    async def come(number: int) -> None:
        try:
            await services.phone(key, f"phone-{number}", address=f"192.0.2.{number}")
        except BadCredentials:
            outcomes.append("refused")
        else:
            outcomes.append("enrolled")

    async with trio.open_nursery() as nursery:
        for number in range(10):
            nursery.start_soon(come, number)

    assert sorted(outcomes) == ["enrolled"] * 3 + ["refused"] * 7


async def test_a_device_joins_the_group_of_its_enrolment_key(autojump_clock: MockClock, services: Services):
    _, key = await services.credentials.create(ENROLMENT, device_group="fleet")

    admission = await services.phone(key, device_group="its own idea", wants_key=True)
    assert admission.device_key is not None
    await services.phone(admission.device_key, device_group="another's")  # nor does it leave it with a key of its own

    record = await services.database.read(lambda connection: devices.find_device(connection, "phone-1"))
    assert record.device_group == "fleet"


async def test_a_device_key_is_good_for_its_device_alone_and_outlives_the_enrolment_key(autojump_clock: MockClock, services: Services):
    key_id, key = await services.credentials.create(ENROLMENT)
    device_key = (await services.phone(key, wants_key=True)).device_key
    await services.phone(key, "phone-2")

    await refusal_of(services.phone(device_key, "phone-2"))
    await refusal_of(services.phone(device_key, "phone-3"))
    await services.credentials.revoke(key_id)
    await refusal_of(services.phone(key))
    admission = await services.phone(device_key)

    assert device_key.startswith(f"sgk_{admission.principal.credential_id}_")
    assert device_key not in repr(admission)


@pytest.mark.parametrize("used", ["first", "newest"])
async def test_an_unused_device_key_replaces_nothing_and_the_first_that_is_used_revokes_the_other(
    autojump_clock: MockClock, services: Services, used: str
):
    keys = {name: (await services.phone(wants_key=True)).device_key or "" for name in ("first", "lost", "newest")}
    await refusal_of(services.phone(keys["lost"]))  # dropped, never used: at most one key waits for its first use
    assert services.of(CredentialRevoked) == []

    await services.phone(keys.pop(used))

    keys.pop("lost")
    ((_, other),) = keys.items()
    assert services.of(CredentialRevoked) == [CredentialRevoked(other.split("_")[1])]
    await refusal_of(services.phone(other))


async def test_once_a_phone_has_used_its_own_key_the_enrolment_key_of_its_group_is_not_it(autojump_clock: MockClock, services: Services):
    """Whoever holds the group's key could otherwise pass for it still, and lock it out by a newer key."""
    own = (await services.phone(wants_key=True)).device_key or ""
    await services.phone(wants_key=True)  # the answer may have been lost
    admission = await services.phone(own)
    await refusal_of(services.phone())
    await refusal_of(services.phone(wants_key=True))
    await refusal_of(services.register("phone-1", ENROLMENT_KEY))
    await services.phone(device_id="phone-2")  # another one of the group
    services.writer.calls = 0
    await services.phone(own)
    assert services.writer.calls == 0
    await services.credentials.revoke(admission.principal.credential_id)
    assert (await services.phone(wants_key=True)).device_key is not None


async def test_an_agents_record_by_the_enrolment_key_falls_to_the_phone_that_has_a_key_of_its_own(
    autojump_clock: MockClock, services: Services
):
    own = (await services.phone(wants_key=True)).device_key or ""
    await services.register("phone-1", ENROLMENT_KEY)
    await services.authentication.agent("phone-1", ENROLMENT_KEY, ADDRESS)
    await services.phone(own)
    await refusal_of(services.authentication.agent("phone-1", ENROLMENT_KEY, ADDRESS))
    await refusal_of(services.register("phone-1", ENROLMENT_KEY))


async def test_a_phone_that_has_a_device_key_gets_no_other(autojump_clock: MockClock, services: Services):
    device_key = (await services.phone(wants_key=True)).device_key

    assert (await services.phone(device_key, wants_key=True)).device_key is None


async def test_a_phone_does_not_come_under_an_id_of_guests(autojump_clock: MockClock, services: Services):
    with pytest.raises(ClientIdReserved):
        await services.phone(ENROLMENT_KEY, "guest-1")
    assert await services.audited() == [("enrol", "guest-1", "reserved")]


async def test_a_client_key_is_no_key_of_a_phone(autojump_clock: MockClock, services: Services):
    _, key = await services.credentials.create(CLIENT, client_id="phone-1")

    await refusal_of(services.phone(key))
    await refusal_of(services.phone(CLIENT_TOKEN, "agent-1"))


async def test_an_agent_connects_with_a_configured_or_a_stored_token_and_nothing_is_written(autojump_clock: MockClock, services: Services):
    key_id, key = await services.credentials.create(CLIENT, client_id="agent-2")
    services.database.reads = services.database.writes = 0

    assert await services.authentication.agent("agent-1", CLIENT_TOKEN, ADDRESS) == Principal(LinkKind.AGENT, "agent-1", "config:agent-1")
    assert await services.authentication.agent("agent-2", key, ADDRESS) == Principal(LinkKind.AGENT, "agent-2", key_id)
    assert (services.database.reads, services.database.writes, services.writer.calls) == (2, 0, 0)


@pytest.mark.parametrize("client_id", ["agent-1", "agent-9"])
async def test_an_unknown_id_and_a_wrong_token_get_the_same_words_and_the_same_work(
    autojump_clock: MockClock, services: Services, client_id: str
):
    assert await refusal_of(services.authentication.agent(client_id, "wrong", ADDRESS)) == "Invalid client_id or auth_token"

    assert (services.database.reads, services.writer.calls, len(services.writer.rows)) == (1, 0, 1)
    assert await services.audited() == [("connect", client_id, "bad_credentials")]


async def test_a_token_of_another_client_and_an_expired_or_revoked_one_are_refused(autojump_clock: MockClock, services: Services):
    key_id, key = await services.credentials.create(CLIENT, client_id="agent-2", expires_at=STARTED_MS + 1000)

    await refusal_of(services.authentication.agent("agent-3", key, ADDRESS))
    await services.authentication.agent("agent-2", key, ADDRESS)
    await trio.sleep(1)
    await refusal_of(services.authentication.agent("agent-2", key, ADDRESS))

    key_id, key = await services.credentials.create(CLIENT, client_id="agent-2")
    await services.credentials.revoke(key_id)
    await refusal_of(services.authentication.agent("agent-2", key, ADDRESS))


async def test_an_enrolment_key_is_no_token_of_an_unregistered_agent(autojump_clock: MockClock, services: Services):
    await refusal_of(services.authentication.agent("agent-5", ENROLMENT_KEY, ADDRESS))


async def test_the_sixth_failure_of_an_id_within_a_minute_is_told_to_wait_until_the_first_is_a_minute_old(
    autojump_clock: MockClock, services: Services
):
    for _ in range(5):
        await refusal_of(services.authentication.agent("agent-1", "wrong", ADDRESS))
        await trio.sleep(1)

    with pytest.raises(RateLimited) as caught:
        await services.authentication.agent("agent-1", CLIENT_TOKEN, ADDRESS)
    assert (caught.value.limit, caught.value.retry_after_s) == ("failed_auth", 55.0)
    await services.authentication.agent("agent-1", CLIENT_TOKEN, "192.0.2.2")  # nobody locks another out

    await trio.sleep(55)
    await services.authentication.agent("agent-1", CLIENT_TOKEN, ADDRESS)
    assert services.metrics.limits.value("auth.max_failed_per_id_per_minute") == 1


async def test_ten_failures_of_an_address_bar_it_whatever_the_id(autojump_clock: MockClock, services: Services):
    for number in range(10):
        services.authentication.check_address(ADDRESS)
        await refusal_of(services.phone("wrong", f"phone-{number}"))

    with pytest.raises(RateLimited) as caught:
        services.authentication.check_address(ADDRESS)
    assert caught.value.retry_after_s == 60.0
    services.authentication.check_address("192.0.2.2")
    with pytest.raises(RateLimited):
        await services.phone(ENROLMENT_KEY, "phone-77")
    assert services.metrics.limits.value("security.max_failed_auth_per_ip_per_minute") == 2


async def test_who_offends_five_times_a_minute_waits_and_nothing_is_looked_up_for_it(autojump_clock: MockClock, services: Services):
    for _ in range(5):
        await services.authentication.agent("agent-1", CLIENT_TOKEN, ADDRESS)
        services.authentication.offended("agent-1", ADDRESS)
        await trio.sleep(1)

    with pytest.raises(RateLimited) as caught:
        await services.authentication.agent("agent-1", CLIENT_TOKEN, ADDRESS)
    assert (caught.value.limit, caught.value.retry_after_s) == ("offending", 55.0)
    await services.authentication.agent("agent-1", CLIENT_TOKEN, "192.0.2.2")  # who has the same key elsewhere is not held to it
    await services.phone(ENROLMENT_KEY, "phone-1")  # nor is another behind the same address
    assert services.metrics.limits.value("security.max_offences_per_minute") == 1

    await trio.sleep(55)
    await services.authentication.agent("agent-1", CLIENT_TOKEN, ADDRESS)


@pytest.mark.parametrize("door", ["agent", "phone"])
async def test_of_a_hundred_guesses_at_once_no_more_than_the_limit_learn_anything(autojump_clock: MockClock, services: Services, door: str):
    told: list[str] = []

    async def guess(number: int) -> None:
        try:
            if door == "phone":
                await services.phone(f"guess-{number}")
            else:
                await services.authentication.agent("agent-1", f"guess-{number}", ADDRESS)
        except (BadCredentials, RateLimited) as error:
            told.append(error.reason)

    async with trio.open_nursery() as nursery:
        for number in range(100):
            nursery.start_soon(guess, number)

    assert told.count("bad_credentials") == 5
    assert len(await services.audited()) == 5


async def test_refusals_from_any_number_of_addresses_cannot_flood_the_audit_trail(autojump_clock: MockClock, services: Services):
    for number in range(300):
        await refusal_of(services.authentication.agent("agent-1", "wrong", f"198.51.{number // 250}.{number % 250}"))

    assert len(await services.audited()) == 100
    assert services.metrics.limits.value("auth.audited_refusals_per_s") == 200


async def test_no_secret_reaches_the_audit_trail_the_log_or_an_error(autojump_clock: MockClock, services: Services, log_lines: list[Any]):
    _, stored = await services.credentials.create(ENROLMENT)
    device_key = (await services.phone(stored, "canary-phone", wants_key=True)).device_key
    _, token = await services.credentials.create(CLIENT, client_id="agent-2")
    await services.register("agent-2", token)
    told = [
        await refusal_of(services.phone("canary-wrong", "a")),
        await refusal_of(services.phone(device_key, "b")),
        await refusal_of(services.authentication.agent("c", token, ADDRESS)),
        await refusal_of(services.register("d", "canary-wrong")),
        repr(AuthSettings(token_secret="canary-secret", api_keys=(f"a:{CLIENT_TOKEN}",), enrolment_keys=(f"b:{ENROLMENT_KEY}",))),
    ]
    await services.registration.unregister("agent-2", token, ADDRESS)

    everything = f"{told} {log_lines} {await services.audit_entries()}"
    kept = await services.database.read(stored_keys.find_all)
    everything += repr(kept)
    for secret in (stored, device_key, token, "canary-wrong", "canary-secret", CLIENT_TOKEN, ENROLMENT_KEY):
        assert secret not in everything


@pytest.mark.parametrize(
    "wrong", [{"deadline_s": 0}, {"token_expiry": 0}, {"audited_refusals_per_s": -1}, {"max_failed_per_id_per_minute": -1}]
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, Any]):
    with pytest.raises(ValueError, match="must"):
        AuthSettings(**wrong)
