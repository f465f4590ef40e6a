"""Members on Cloudflare: who gets which session, tracks and offer, and what is asked again (S-24, S-41; C-15)."""

from random import Random
from typing import Any

import msgspec
import pytest
import trio
from trio.testing import MockClock

from signal_gateway.bridges.cloudflare import CloudflareMedia
from signal_gateway.bridges.cloudflare_api import CloudflareApi
from signal_gateway.bridges.patience import Patience
from signal_gateway.domain.errors import MediaDown, SessionError
from signal_gateway.observe.metrics import Metrics
from signal_gateway.services.media import MediaSession
from signal_gateway.services.turn import IceServers, MediaSettings
from signal_gateway.testing.fake_cloudflare import FakeCloudflare, FakeTrack
from signal_gateway.testing.fake_http import Fault
from tests.bridges.cloudflare_made import ANSWER, APP_ID, APP_SECRET, OFFER, SETTINGS, OverNothing, offer_of

TURN = MediaSettings(turn_urls=("turn:turn.example:3478",), turn_secret="canary-turn-secret")


class LongestWaits(Random):
    """Draws the longest wait each time, so that tests can tell it."""

    def uniform(self, a: float, b: float) -> float:
        return b


class Made:
    """A CloudflareMedia over a stand-in, on virtual time."""

    def __init__(self, **changes: object) -> None:
        settings = msgspec.structs.replace(SETTINGS, **changes)
        self.metrics = Metrics()
        self.fake = FakeCloudflare(APP_ID, APP_SECRET)
        self.network = OverNothing(self.fake)
        self.api = CloudflareApi(settings, self.metrics, self.network)
        self.patience = Patience(settings, self.metrics, LongestWaits(7))
        ice_servers = IceServers(TURN, settings.stun_url, lambda: 1_700_000_000_000)
        self.media = CloudflareMedia(self.api, self.patience, ice_servers, settings.app_id)
        self.began_at = trio.current_time()

    def asked(self) -> list[str]:
        """Method and last words of each path that reached the stand-in."""
        return [f"{seen.method} {seen.path.partition('/sessions/')[2].rpartition('/')[2]}" for seen in self.fake.seen]

    def asked_at(self) -> list[float]:
        """When, in seconds from the beginning."""
        return [round(at - self.began_at, 3) for at in self.network.asked_at]

    async def down(self, *faults: Fault) -> str:
        """The reason of the MediaDown that an open ends with."""
        self.fake.faults.extend(faults)
        with pytest.raises(MediaDown) as refused:
            await self.media.open(OFFER, None)
        assert refused.value.status == 503
        return refused.value.reason


def failing(times: int, status: int = 503) -> list[Fault]:
    return [Fault("status", status=status)] * times


# Who gets what


async def test_the_sender_is_answered_and_a_receiver_gets_its_tracks_by_an_offer_and_answers_it(autojump_clock: MockClock):
    made = Made()
    sender = await made.media.open(OFFER, None)
    receiver = await made.media.open(None, sender)
    assert (sender.answer_sdp or "").startswith("v=0")
    assert len(sender.published) == 2
    assert receiver.session_id != sender.session_id
    assert (receiver.publisher_session_id, receiver.offered, receiver.answer_sdp) == (sender.session_id, sender.published, None)
    assert (receiver.offer_sdp or "").count("a=sendonly") == 2
    assert receiver.lacks(sender) == ()
    await made.media.answer(receiver, ANSWER)
    assert not made.fake.sessions[receiver.session_id].awaits_answer
    assert made.media.app_id == APP_ID
    assert made.asked() == ["POST new", "POST new", "POST new", "POST new", "PUT renegotiate"]


async def test_who_comes_before_the_sender_gets_its_tracks_later(autojump_clock: MockClock):
    made = Made()
    early = await made.media.open(None, None)
    assert (early.offer_sdp, early.offered) == (None, ())
    sender = await made.media.open(OFFER, None)
    later = await made.media.receive(early, sender)
    assert (later.session_id, later.publisher_session_id, later.offered) == (early.session_id, sender.session_id, sender.published)
    assert later.offer_sdp


async def test_who_comes_with_an_offer_is_answered_and_gets_the_senders_tracks_by_another(autojump_clock: MockClock):
    made = Made()
    sender = await made.media.open(OFFER, None)
    talker = await made.media.open(OFFER, sender)
    assert talker.answer_sdp
    assert (talker.offer_sdp, talker.lacks(sender)) == (None, sender.published)
    assert (await made.media.receive(talker, sender)).offer_sdp


async def test_a_further_offer_adds_to_what_is_published_and_receivers_get_what_they_lack(autojump_clock: MockClock):
    made = Made()
    sender = await made.media.open(offer_of("audio"), None)
    receiver = await made.media.open(None, sender)
    await made.media.answer(receiver, ANSWER)
    sender = await made.media.offer(sender, OFFER)
    assert (len(sender.published), sender.answer_sdp is not None) == (2, True)
    assert receiver.lacks(sender) == sender.published[1:]
    receiver = await made.media.receive(receiver, sender)
    assert receiver.offered == sender.published
    assert [made.fake.sessions[receiver.session_id].tracks[mid].name for mid in ("0", "1")] == list(sender.published)


async def test_another_publisher_is_lacked_in_whole(autojump_clock: MockClock):
    made = Made()
    older, newer = await made.media.open(OFFER, None), await made.media.open(OFFER, None)
    receiver = await made.media.open(None, older)
    assert receiver.lacks(newer) == newer.published
    await made.media.answer(receiver, ANSWER)
    receiver = await made.media.receive(receiver, newer)
    assert (receiver.publisher_session_id, receiver.offered) == (newer.session_id, newer.published)


async def test_a_further_offer_whose_answer_is_lost_is_not_repeated(autojump_clock: MockClock):
    made = Made()
    sender = await made.media.open(OFFER, None)
    made.fake.faults.append(Fault("cut"))
    with pytest.raises(MediaDown):
        await made.media.offer(sender, OFFER)
    assert made.asked() == ["POST new"] * 3


async def test_an_sdp_that_fits_no_frame_is_a_session_error(autojump_clock: MockClock, lines: list[dict[str, Any]]):
    made = Made()
    sender = await made.media.open(OFFER, None)
    made.fake.sdp_more = "a=x:" + "y" * 40_000 + "\r\n"
    with pytest.raises(SessionError):
        await made.media.open(OFFER, None)
    with pytest.raises(SessionError):
        await made.media.open(None, sender)
    assert [line["event"] for line in lines][:1] == ["an SDP of the media backend fits no frame"]
    assert made.patience.trouble() is None


async def test_a_sender_without_an_offer_has_a_session_and_no_tracks(autojump_clock: MockClock):
    made = Made()
    sender = await made.media.open(None, None)
    assert (sender.answer_sdp, sender.offer_sdp, sender.published) == (None, None, ())


async def test_tracks_that_are_not_there_yet_are_still_lacked(autojump_clock: MockClock):
    made = Made()
    sender = await made.media.open(OFFER, None)
    tracks = made.fake.sessions[sender.session_id].tracks
    made.fake.sessions[sender.session_id].tracks = {}
    early = await made.media.open(None, sender)
    assert (early.offer_sdp, early.lacks(sender)) == (None, sender.published)
    made.fake.sessions[sender.session_id].tracks = {"0": tracks["0"]}
    later = await made.media.receive(early, sender)
    assert later.offer_sdp
    assert (later.offered, later.lacks(sender)) == ((tracks["0"].name,), (tracks["1"].name,))


async def test_a_member_is_told_of_stun_and_turn_servers(autojump_clock: MockClock):
    made = Made(stun_url="stun:own.example:3478")
    assert made.media.stun_url == "stun:own.example:3478"
    assert [server["urls"] for server in made.media.ice_servers("robot")] == [["stun:own.example:3478"], ["turn:turn.example:3478"]]


# The end


async def test_closing_closes_the_tracks(autojump_clock: MockClock):
    made = Made()
    sender = await made.media.open(OFFER, None)
    await made.media.close(sender)
    assert made.fake.open_tracks(sender.session_id) == []


async def test_a_session_that_has_ended_by_itself_is_closed_without_a_fault(autojump_clock: MockClock):
    made = Made()
    sender = await made.media.open(OFFER, None)
    made.fake.expire(sender.session_id)
    await made.media.close(sender)
    await made.media.close(MediaSession(session_id="never-there"))
    assert made.patience.trouble() is None


async def test_more_than_64_tracks_are_closed_in_pieces_and_one_that_was_closed_is_left_out(autojump_clock: MockClock):
    made = Made()
    session = await made.media.open(None, None)
    tracks = made.fake.sessions[session.session_id].tracks
    tracks |= {str(mid): FakeTrack(str(mid), f"track {mid}") for mid in range(130)}
    tracks["7"].status = "inactive"
    await made.media.close(session)
    bodies = [msgspec.json.decode(seen.body) for seen in made.fake.seen if seen.path.endswith("/close")]
    assert [(len(body["tracks"]), body["force"]) for body in bodies] == [(64, True), (64, True), (1, True)]
    assert made.fake.open_tracks(session.session_id) == []


async def test_the_connections_are_given_back_at_the_end(autojump_clock: MockClock):
    made = Made()
    async with trio.open_nursery() as nursery:
        await nursery.start(made.media.run)
        await trio.sleep(1)
        assert not made.api._client.is_closed
        nursery.cancel_scope.cancel()
    assert made.api._client.is_closed


# Asked again, and not


async def test_after_5xx_it_is_asked_again_after_doubled_waits_each_time_with_a_new_session(autojump_clock: MockClock):
    made = Made()
    made.fake.faults += [*failing(1, 500), *failing(1, 502)]
    session = await made.media.open(OFFER, None)
    assert made.asked_at() == [0, 0.2, 0.6, 0.6]
    assert list(made.fake.sessions) == [session.session_id]
    assert "signal_gateway_media_retries_total 2.0" in made.metrics.text().decode()


async def test_when_the_answer_to_an_offer_is_lost_the_offer_goes_into_a_new_session(autojump_clock: MockClock):
    """On the old one it would be out of order: nobody knows whether it was heard."""
    made = Made()
    made.fake.faults += [Fault("slow"), Fault("cut")]
    session = await made.media.open(OFFER, None)
    lost, kept = made.fake.sessions
    assert session.session_id == kept
    assert len(made.fake.open_tracks(lost)) == 2


async def test_three_attempts_are_made_and_then_the_reason_is_told(autojump_clock: MockClock):
    made = Made()
    assert await made.down(*failing(3)) == "media_failed"
    assert made.asked_at() == [0, 0.2, 0.6]


@pytest.mark.parametrize(
    ("faults", "reason"),
    [
        ([Fault("cut_unseen")] * 3, "media_unreachable"),
        ([Fault("cut")] * 3, "media_unreachable"),
        ([Fault("garbage")] * 3, "media_garbled"),
        (failing(3, 429), "media_limited"),
        (failing(1, 401), "media_not_accepted"),
    ],
)
async def test_each_failure_has_its_reason(autojump_clock: MockClock, faults: list[Fault], reason: str):
    made = Made()
    assert await made.down(*faults) == reason
    assert len(made.network.asked_at) == len(faults)


async def test_retry_after_is_kept_to(autojump_clock: MockClock):
    made = Made()
    made.fake.faults.append(Fault("status", status=429, retry_after_s=3))
    await made.media.open(OFFER, None)
    assert made.asked_at() == [0, 3, 3]


async def test_nobody_waits_for_a_time_that_he_does_not_have(autojump_clock: MockClock):
    made = Made()
    assert await made.down(Fault("status", status=503, retry_after_s=8)) == "media_failed"
    with trio.fail_after(2):
        assert await made.down(Fault("status", status=503, retry_after_s=3)) == "media_failed"
    assert made.asked_at() == [0, 0]


async def test_calls_that_hang_end_after_six_seconds_and_the_operation_after_eight(autojump_clock: MockClock):
    made = Made()
    assert await made.down(Fault("slow", seconds=60), Fault("slow", seconds=60)) == "media_timeout"
    assert trio.current_time() - made.began_at == pytest.approx(8)
    assert made.asked_at() == [0, 6.2]
    assert [made.metrics.limits.value(f"cloudflare.{key}") for key in ("call_s", "operation_s")] == [1, 1]


async def test_an_sdp_that_cloudflare_refuses_is_a_session_error_at_once_and_the_backend_is_well(
    autojump_clock: MockClock, lines: list[dict[str, Any]]
):
    made = Made(failures_max=1)
    with pytest.raises(SessionError) as refused:
        await made.media.open("v=1 canary-sdp", None)
    assert refused.value.status == 500
    assert made.asked() == ["POST new", "POST new"]
    assert made.patience.trouble() is None
    assert [(line["status"], line["code"]) for line in lines] == [(406, "invalid_session_description")]
    assert "canary" not in repr(lines)


async def test_an_answer_is_never_said_twice_but_when_it_was_certainly_not_heard(autojump_clock: MockClock):
    made = Made()
    receiver = await made.media.open(None, await made.media.open(OFFER, None))
    made.fake.faults += [Fault("cut_unseen"), Fault("cut")]
    with pytest.raises(MediaDown):
        await made.media.answer(receiver, ANSWER)
    assert made.asked()[4:] == ["PUT renegotiate"]
    with pytest.raises(SessionError):  # it was heard; only the member can make a new exchange
        await made.media.answer(receiver, ANSWER)


async def test_who_is_not_connected_yet_is_asked_for_again(autojump_clock: MockClock):
    made = Made()
    early, sender = await made.media.open(None, None), await made.media.open(OFFER, None)
    made.fake.faults += [Fault("status", status=425), Fault("status", status=425)]
    assert (await made.media.receive(early, sender)).offer_sdp


# Left alone


async def test_after_five_failures_in_a_row_nobody_asks_for_ten_seconds_then_one(autojump_clock: MockClock, lines: list[dict[str, Any]]):
    made = Made()
    assert [await made.down(*failing(3)), await made.down(*failing(2))] == ["media_failed", "media_left_alone"]
    assert made.patience.trouble() == "failed 503 internal_error, left alone"
    asked, opened_at = len(made.network.asked_at), made.network.asked_at[-1]
    assert await made.down() == "media_left_alone"
    await trio.sleep_until(opened_at + 9.9)
    assert await made.down() == "media_left_alone"
    assert len(made.network.asked_at) == asked
    await trio.sleep_until(opened_at + 10)
    assert made.patience.trouble() == "failed 503 internal_error, about to be tried"
    assert await made.media.open(OFFER, None)
    assert made.patience.trouble() is None
    assert [line["event"] for line in lines] == ["the media backend is left alone", "the media backend is well again"]
    assert made.metrics.limits.value("cloudflare.failures_max") == 1


async def test_the_one_that_tries_is_alone_and_when_it_fails_the_rest_begins_anew(autojump_clock: MockClock):
    made = Made(failures_max=1, attempts_max=1)
    await made.down(*failing(1))
    await trio.sleep(10)
    made.fake.faults.append(Fault("slow", seconds=60))
    reasons: list[str] = []

    async def ask() -> None:
        reasons.append(await made.down())

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(ask)
    assert sorted(reasons) == ["media_left_alone"] * 4 + ["media_timeout"]
    assert len(made.network.asked_at) == 2
    await trio.sleep(9.9)
    assert await made.down() == "media_left_alone"
    await trio.sleep(0.1)
    assert await made.media.open(OFFER, None)


async def test_one_whose_member_goes_away_tells_nothing_and_lets_the_next_one_try(autojump_clock: MockClock):
    made = Made(failures_max=1)
    await made.down(*failing(1), *failing(1))
    await trio.sleep(10)
    made.fake.faults.clear()
    made.fake.faults.append(Fault("slow", seconds=60))
    with trio.move_on_after(1):
        await made.media.open(OFFER, None)
    assert await made.media.open(OFFER, None)


async def test_who_is_limited_does_not_count_as_a_failure_of_the_backend(autojump_clock: MockClock):
    made = Made(failures_max=1)
    assert await made.down(*failing(3, 429)) == "media_limited"
    assert made.patience.trouble() is None


async def test_the_metric_tells_whether_it_is_left_alone(autojump_clock: MockClock):
    made = Made(failures_max=1)
    assert "signal_gateway_media_breaker_open 0.0" in made.metrics.text().decode()
    await made.down(*failing(1))
    assert "signal_gateway_media_breaker_open 1.0" in made.metrics.text().decode()


# Bounds


async def test_more_operations_at_a_time_than_may_be_are_refused(autojump_clock: MockClock):
    made = Made(calls_max=2)
    made.fake.faults += [Fault("slow", seconds=1), Fault("slow", seconds=1)]
    async with trio.open_nursery() as nursery:
        for _ in range(2):
            nursery.start_soon(made.media.open, None, None)
        await trio.sleep(0.5)
        assert await made.down() == "media_busy"
    assert made.metrics.limits.value("cloudflare.calls_max") == 1
    assert await made.media.open(OFFER, None)


async def test_no_secret_and_no_sdp_is_in_a_log_line_or_an_error_whatever_goes_wrong(
    autojump_clock: MockClock, lines: list[dict[str, Any]]
):
    made = Made(failures_max=2, attempts_max=2)
    errors: list[object] = []
    for kind in ("status", "cut", "cut_unseen", "garbage"):
        for _ in range(3):
            made.fake.faults += [Fault(kind)] * 2  # type: ignore[arg-type]
            with pytest.raises(MediaDown) as refused:
                await made.media.open(OFFER + "a=canary-sdp\r\n", None)
            errors += [refused.value, refused.value.__cause__, refused.value.details, vars(refused.value)]
            made.fake.faults.clear()
        await trio.sleep(10)
    assert len(lines) >= 1
    for canary in (APP_SECRET, "canary", "v=0", "fingerprint"):
        assert canary not in repr(lines) + repr(errors) + made.metrics.text().decode()
