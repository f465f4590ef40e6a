"""The calls of Cloudflare's API: one contract for the stand-in over a socket and for Cloudflare itself, where there are credentials."""

from collections.abc import AsyncIterator
from contextlib import aclosing

import msgspec
import pytest
import trio
from trio.testing import MockClock

from signal_gateway.bridges.cloudflare_api import CallFailed, CloudflareApi, Refused
from signal_gateway.bridges.cloudflare_settings import CloudflareSettings
from signal_gateway.observe.metrics import Metrics
from signal_gateway.testing.fake_cloudflare import FakeCloudflare
from signal_gateway.testing.fake_http import Fault
from signal_gateway.testing.localhost import CERTIFICATE_PATH, server_context
from tests.bridges.cloudflare_made import ANSWER, APP_ID, APP_SECRET, OFFER, SETTINGS, OverNothing, offer_of, real_settings

REAL = real_settings()
NO_SESSION = "f" * 32


@pytest.fixture
async def fake(nursery: trio.Nursery) -> FakeCloudflare:
    return FakeCloudflare(APP_ID, APP_SECRET)


@pytest.fixture
async def settings(fake: FakeCloudflare, nursery: trio.Nursery) -> CloudflareSettings:
    """The stand-in over a socket."""
    return msgspec.structs.replace(SETTINGS, base_url=f"{await nursery.start(fake.run)}/v1")


@pytest.fixture
async def api(settings: CloudflareSettings) -> AsyncIterator[CloudflareApi]:
    async with aclosing(CloudflareApi(settings, Metrics())) as made:
        yield made


needs_credentials = pytest.mark.skipif(REAL is None, reason="needs SIGNAL_GATEWAY_CLOUDFLARE__APP_ID and __APP_SECRET")


@pytest.fixture(params=["stand-in", pytest.param("cloudflare", marks=needs_credentials)])
async def contract(request: pytest.FixtureRequest, settings: CloudflareSettings) -> AsyncIterator[CloudflareApi]:
    """Both, one after the other."""
    chosen = settings if request.param == "stand-in" or REAL is None else REAL
    async with aclosing(CloudflareApi(chosen, Metrics())) as made:
        yield made


# What holds for both


async def test_each_session_is_new(contract: CloudflareApi):
    first, second = await contract.new_session(), await contract.new_session()
    assert first
    assert first != second


async def test_an_offer_is_answered_and_its_tracks_have_names(contract: CloudflareApi):
    session_id = await contract.new_session()
    published = await contract.publish(session_id, OFFER)
    assert published.session_description is not None
    assert published.session_description.type == "answer"
    assert published.session_description.sdp.startswith("v=0")
    assert sorted(track.mid for track in published.tracks) == ["0", "1"]
    assert len({track.track_name for track in published.tracks} - {""}) == 2


async def test_what_was_published_is_shown_until_it_is_closed_and_closing_again_is_no_fault(contract: CloudflareApi):
    session_id = await contract.new_session()
    names = {track.track_name for track in (await contract.publish(session_id, OFFER)).tracks}
    shown = await contract.open_tracks(session_id)
    assert {track.track_name for track in shown} == names
    mids = [track.mid for track in shown]
    assert await contract.close_tracks(session_id, mids) == []
    assert await contract.open_tracks(session_id) == []
    assert await contract.close_tracks(session_id, mids) == []


async def test_a_session_that_is_not_there_is_gone(contract: CloudflareApi):
    with pytest.raises(Refused) as refused:
        await contract.open_tracks(NO_SESSION)
    assert refused.value.is_gone
    with pytest.raises(Refused):
        await contract.publish(NO_SESSION, OFFER)


async def test_what_is_no_sdp_is_refused_and_tells_nothing_of_the_backend(contract: CloudflareApi):
    session_id = await contract.new_session()
    with pytest.raises(Refused) as refused:
        await contract.publish(session_id, "hello")
    assert 400 <= refused.value.status < 500


async def test_a_track_that_nobody_publishes_has_no_offer(contract: CloudflareApi):
    publisher, receiver = await contract.new_session(), await contract.new_session()
    pulled = await contract.pull(receiver, publisher, ["nothing"])
    assert pulled.session_description is None
    assert [track.error_code for track in pulled.tracks] == ["not_found_track_error"]


@pytest.mark.parametrize("part", ["app_id", "app_secret"])
async def test_a_wrong_id_or_secret_is_not_accepted(contract: CloudflareApi, part: str):
    chosen = contract._settings
    wrong = msgspec.structs.replace(chosen, **{part: "a" * 32})
    async with aclosing(CloudflareApi(wrong, Metrics())) as api:
        with pytest.raises(CallFailed) as failed:
            await api.new_session()
    assert (failed.value.reason, failed.value.was_done) == ("not_accepted", False)


# What the stand-in alone can show: it carries no media, so nothing must be connected before tracks are pulled


async def test_a_receiver_gets_an_offer_and_its_answer_is_taken_once(api: CloudflareApi):
    publisher, receiver = await api.new_session(), await api.new_session()
    names = [track.track_name for track in (await api.publish(publisher, OFFER)).tracks]
    pulled = await api.pull(receiver, publisher, names)
    assert pulled.session_description is not None
    assert pulled.session_description.type == "offer"
    assert [(track.session_id, track.track_name) for track in pulled.tracks] == [(publisher, name) for name in names]
    with pytest.raises(Refused, match="invalid_session_description"):
        await api.publish(receiver, OFFER)  # an answer is outstanding
    await api.renegotiate(receiver, ANSWER)
    with pytest.raises(Refused, match="invalid_session_description"):
        await api.renegotiate(receiver, ANSWER)


async def test_more_than_64_tracks_are_not_even_asked_for(api: CloudflareApi, fake: FakeCloudflare):
    session_id = await api.new_session()
    assert len((await api.publish(session_id, offer_of(*["video"] * 64))).tracks) == 64
    asked = len(fake.seen)
    with pytest.raises(Refused):
        await api.publish(session_id, offer_of(*["video"] * 65))
    assert len(fake.seen) == asked


async def test_calls_use_one_connection_again_and_together_no_more_than_may(settings: CloudflareSettings, fake: FakeCloudflare):
    async with aclosing(CloudflareApi(msgspec.structs.replace(settings, connections_max=3), Metrics())) as api:
        for _ in range(20):
            await api.new_session()
        assert fake.connections == 1
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(api.new_session)
        assert fake.connections == 3


async def test_the_secret_goes_into_one_header_and_the_body_is_as_documented(api: CloudflareApi, fake: FakeCloudflare):
    session_id = await api.new_session()
    await api.publish(session_id, OFFER)
    first, second = fake.seen
    assert (first.method, first.path, first.body) == ("POST", f"/v1/apps/{APP_ID}/sessions/new", b"")
    assert second.path == f"/v1/apps/{APP_ID}/sessions/{session_id}/tracks/new"
    assert msgspec.json.decode(second.body) == {"sessionDescription": {"type": "offer", "sdp": OFFER}, "autoDiscover": True}
    assert second.headers["content-type"] == "application/json"
    for seen in fake.seen:
        assert [name for name, value in seen.headers.items() if APP_SECRET in value] == ["authorization"]
        assert seen.headers["accept-encoding"] == "identity"  # what is bounded is what is read
        assert seen.headers["authorization"] == f"Bearer {APP_SECRET}"
        assert APP_SECRET not in seen.path + seen.body.decode()


async def test_ids_of_whatever_kind_stay_within_their_part_of_the_path(api: CloudflareApi, fake: FakeCloudflare):
    with pytest.raises(Refused):
        await api.open_tracks("../../other?x=1#y")
    assert fake.seen[-1].path == f"/v1/apps/{APP_ID}/sessions/..%2F..%2Fother%3Fx%3D1%23y"


FAULTS = [
    (Fault("status", status=500), "failed", None),
    (Fault("status", status=503), "failed", None),
    (Fault("status", status=302), "failed", None),
    (Fault("status", status=429, retry_after_s=3), "limited", False),
    (Fault("status", status=401), "not_accepted", False),
    (Fault("status", status=400, code="temporarily_unavailable_error"), "failed", None),
    (Fault("status", status=500, code="retryable_transient_error"), "failed", False),
    (Fault("status", status=200, code="backend_error"), "failed", None),
    (Fault("status", status=503, code="canary <secret>"), "failed", None),
    (Fault("cut"), "connection_lost", None),
    (Fault("cut_unseen"), "connection_lost", None),
    (Fault("cut_within"), "connection_lost", None),
    (Fault("slow", seconds=5), "timeout", None),
    (Fault("garbage"), "garbled", None),
    (Fault("endless", bytes=SETTINGS.answer_bytes_max + 1), "garbled", None),
]


@pytest.mark.parametrize(("fault", "reason", "was_done"), FAULTS, ids=lambda part: getattr(part, "kind", ""))
async def test_each_fault_has_its_reason_and_the_next_call_is_well(
    settings: CloudflareSettings, fake: FakeCloudflare, fault: Fault, reason: str, was_done: bool | None
):
    metrics = Metrics()
    if fault.kind == "slow":
        settings = msgspec.structs.replace(settings, call_s=1)  # real time, in which the call after it must be answered
    async with aclosing(CloudflareApi(settings, metrics)) as api:
        fake.faults.append(fault)
        with pytest.raises(CallFailed) as failed:
            await api.new_session()
        assert (failed.value.reason, failed.value.was_done, failed.value.retry_after_s) == (reason, was_done, fault.retry_after_s)
        assert not any(word in repr(failed.value) for word in (APP_SECRET, "canary"))
        assert await api.new_session()
    page = metrics.text().decode()
    assert f'signal_gateway_media_calls_total{{operation="new_session",outcome="{reason}"}} 1.0' in page
    assert 'signal_gateway_media_calls_total{operation="new_session",outcome="ok"} 1.0' in page
    assert "signal_gateway_media_call_seconds_count 2.0" in page
    limits = {"timeout": "cloudflare.call_s", "endless": "cloudflare.answer_bytes_max"}
    assert metrics.limits.total == (1 if {reason, fault.kind} & limits.keys() else 0)


async def test_where_sessions_cannot_be_made_it_is_the_address_that_is_wrong_and_no_member(api: CloudflareApi, fake: FakeCloudflare):
    fake.faults.append(Fault("status", status=404, code=""))
    with pytest.raises(CallFailed) as failed:
        await api.new_session()
    assert not isinstance(failed.value, Refused)
    assert (failed.value.reason, failed.value.status, failed.value.was_done) == ("not_accepted", 404, False)


async def test_over_tls_it_is_asked_where_its_certificate_is_believed_and_told_no_secret_where_not(
    fake: FakeCloudflare, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
):
    settings = msgspec.structs.replace(SETTINGS, base_url=f"{await nursery.start(fake.run, server_context())}/v1")
    async with aclosing(CloudflareApi(settings, Metrics())) as doubting:
        with pytest.raises(CallFailed) as failed:
            await doubting.new_session()
    assert (failed.value.reason, fake.seen) == ("unreachable", [])
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE_PATH))
    async with aclosing(CloudflareApi(settings, Metrics())) as believing:
        assert await believing.new_session()


async def test_where_nobody_listens_nothing_was_done():
    listener = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener[0].socket.getsockname()[1]
    await listener[0].aclose()
    async with aclosing(CloudflareApi(msgspec.structs.replace(SETTINGS, base_url=f"http://127.0.0.1:{port}"), Metrics())) as api:
        with pytest.raises(CallFailed) as failed:
            await api.new_session()
    assert (failed.value.reason, failed.value.was_done) == ("unreachable", False)


async def test_the_stand_in_limits_the_calls_of_one_session_as_documented(autojump_clock: MockClock, fake: FakeCloudflare):
    async with aclosing(CloudflareApi(SETTINGS, Metrics(), OverNothing(fake))) as api:
        session_id, other = await api.new_session(), await api.new_session()
        for _ in range(50):
            assert await api.open_tracks(session_id) == []
        with pytest.raises(CallFailed) as failed:
            await api.open_tracks(session_id)
        assert (failed.value.reason, failed.value.status, failed.value.retry_after_s) == ("limited", 429, 1)
        assert await api.open_tracks(other) == []
        await trio.sleep(1)
        assert await api.open_tracks(session_id) == []
