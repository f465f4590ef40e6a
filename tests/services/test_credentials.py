"""Keys: made, listed, revoked, watched."""

from functools import partial

import pytest
import trio
from trio.testing import MockClock

from signal_gateway.domain.credential import CredentialKind
from signal_gateway.domain.errors import DatabaseDown, DiskFull
from signal_gateway.domain.events import CredentialRevoked
from signal_gateway.services.credentials import KeyConfigurationError
from signal_gateway.storage import credentials as stored_keys
from tests.services.conftest import STARTED_MS, Services

CLIENT = CredentialKind.CLIENT
ENROLMENT = CredentialKind.ENROLMENT


async def test_a_key_is_shown_once_and_kept_as_a_digest(autojump_clock: MockClock, services: Services):
    key_id, key = await services.credentials.create(ENROLMENT, label="hall", max_devices=3)

    (kept,) = await services.credentials.list()
    assert (kept.id, kept.kind, kept.label, kept.max_devices, kept.created_at) == (key_id, ENROLMENT, "hall", 3, STARTED_MS)
    assert kept.digest == services.credentials.digest(key)
    assert len(kept.digest) == 32
    assert await services.audited() == [("key_create", key_id, "ok")]


async def test_a_client_key_needs_the_name_of_its_client(autojump_clock: MockClock, services: Services):
    for client_id in (None, "", "white space"):
        with pytest.raises(ValueError, match="client key"):
            await services.credentials.create(CLIENT, client_id=client_id)


async def test_revoking_is_told_at_once_and_works_once(autojump_clock: MockClock, services: Services):
    key_id, _ = await services.credentials.create(ENROLMENT)

    assert await services.credentials.revoke(key_id)
    assert not await services.credentials.revoke(key_id)
    assert not await services.credentials.revoke("nosuchkey")

    assert services.of(CredentialRevoked) == [CredentialRevoked(key_id)]
    assert await services.audited() == [
        ("key_create", key_id, "ok"),
        ("key_revoke", key_id, "ok"),
        ("key_revoke", key_id, "not_found"),
        ("key_revoke", "nosuchkey", "not_found"),
    ]


async def test_a_key_that_another_process_revokes_is_told_within_two_seconds_whatever_its_clock_says(
    autojump_clock: MockClock, nursery: trio.Nursery, services: Services
):
    before, _ = await services.credentials.create(ENROLMENT)
    key_id, _ = await services.credentials.create(ENROLMENT)
    await services.credentials.revoke(before)
    services.events.clear()
    await nursery.start(services.credentials.run)
    await trio.sleep(3)
    revoked_at_s = trio.current_time()
    told_at_s: list[float] = []
    services.bus.subscribe(CredentialRevoked, lambda event: told_at_s.append(trio.current_time()))

    years_ago = partial(stored_keys.revoke, credential_id=key_id, actor="cli", now_ms=1)
    await services.database.write(years_ago)
    await trio.sleep(60)

    assert services.of(CredentialRevoked) == [CredentialRevoked(key_id)] * 6  # told again for ten seconds, then no more
    assert [at - revoked_at_s for at in told_at_s] == [1, 3, 5, 7, 9, 11]


async def test_the_end_of_a_client_key_is_told_and_that_of_an_enrolment_key_is_not(
    autojump_clock: MockClock, nursery: trio.Nursery, services: Services
):
    key_id, _ = await services.credentials.create(CLIENT, client_id="agent-2", expires_at=STARTED_MS + 5000)
    await services.credentials.create(ENROLMENT, expires_at=STARTED_MS + 5000)
    await nursery.start(services.credentials.run)

    await trio.sleep(5.5)
    assert services.events == []
    await trio.sleep(1)
    assert services.events == [CredentialRevoked(key_id, has_expired=True)]


@pytest.mark.parametrize("refusal", [DatabaseDown, DiskFull])
async def test_a_database_that_cannot_be_read_delays_the_word_and_ends_nothing(
    autojump_clock: MockClock,
    nursery: trio.Nursery,
    services: Services,
    monkeypatch: pytest.MonkeyPatch,
    refusal: type[DatabaseDown | DiskFull],
):
    key_id, _ = await services.credentials.create(ENROLMENT)
    await nursery.start(services.credentials.run)
    await trio.sleep(1)

    async def down(work: object) -> None:
        raise refusal

    with monkeypatch.context() as patched:
        patched.setattr(services.database, "read", down)
        await services.database.write(partial(stored_keys.revoke, credential_id=key_id, actor="cli", now_ms=STARTED_MS))
        await trio.sleep(20)
        assert services.events == []
    await trio.sleep(2)
    assert services.events == [CredentialRevoked(key_id)]


@pytest.mark.parametrize("entries", [["no-colon"], ["name:"], [":key"], ["white space:key"], ["a:canary", "a:other"]])
async def test_a_faulty_key_of_the_configuration_is_refused_without_showing_it(
    autojump_clock: MockClock, services: Services, entries: list[str]
):
    with pytest.raises(KeyConfigurationError, match=r"auth\.enrolment_keys") as caught:
        services.configure(enrolment_keys=entries)
    assert "key" not in str(caught.value).replace("auth.enrolment_keys", "").replace("name:key", "")
    assert "canary" not in str(caught.value)


async def test_two_names_with_one_enrolment_key_are_refused(autojump_clock: MockClock, services: Services):
    with pytest.raises(KeyConfigurationError, match="two names"):
        services.configure(enrolment_keys=["a:same", "b:same"])


async def test_the_configuration_is_kept_as_digests_and_a_token_may_hold_colons(autojump_clock: MockClock, services: Services):
    services.configure(api_keys=["agent-1:canary:with:colons", f"{'a' * 128}:canary-long"])

    token = services.credentials.client_token("agent-1")
    long = services.credentials.client_token("a" * 128)
    assert token is not None
    assert token.digest == services.credentials.digest("canary:with:colons")
    assert long is not None
    assert len(long.id) <= 64
    assert "canary" not in repr(vars(services.credentials))
