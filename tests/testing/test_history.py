"""What a world notes of itself."""

import pytest
import trio
from trio.testing import MockClock

from protocol.frame import FrameType
from signal_gateway.config import Config
from signal_gateway.domain.errors import DatabaseDown
from signal_gateway.domain.events import DeviceLinked, ReportFiled
from signal_gateway.services.authentication import AuthSettings
from signal_gateway.storage.database import InlineDatabase
from signal_gateway.testing.client import NoLink
from signal_gateway.testing.faults import FaultPlan, Network
from signal_gateway.testing.history import DATABASE, GATEWAY, LOG, NETWORK, Entry, History
from signal_gateway.testing.world import World, open_world
from tests.storage.reports_filed import filed

CONFIG = Config(auth=AuthSettings(api_keys=("test_client_1:test_token_1",), enrolment_keys=("demo:demo-enrolment-key",)))
SMS = {"phone_number": "+905551234567", "message": "hello", "direction": "received"}


def told(world: World, who: str, what: str) -> list[Entry]:
    return [entry for entry in world.history.entries if (entry.who, entry.what) == (who, what)]


async def test_a_report_can_be_followed_from_the_phone_to_the_disk_and_back(autojump_clock: MockClock):
    async with open_world(CONFIG) as world:
        phone = world.phone(1)
        await world.links.start(phone.live)
        await phone.report("sms_message", SMS)

        entries = world.history.entries
        sent = next(entry for entry in told(world, phone.device_id, "sent") if "sms_message" in entry.about)
        (filed,) = told(world, GATEWAY, "ReportFiled")
        written = next(entry for entry in told(world, DATABASE, "committed") if "INSERT INTO reports" in repr(entry.about))
        (heard,) = [entry for entry in told(world, phone.device_id, "heard") if '"ack"' in entry.about]
        assert entries.index(sent) < entries.index(filed) < entries.index(written) < entries.index(heard)
        assert isinstance(filed.about, ReportFiled)
        assert sent.link == filed.link == heard.link == 1
        assert written.link == 0
        assert "hello" in repr(written.about)


async def test_a_link_is_told_from_its_dialling_to_its_end(autojump_clock: MockClock):
    async with open_world(CONFIG) as world:
        agent = world.agent()
        await world.links.start(agent.live)
        assert agent.client is not None
        await agent.client.send(b"no frame")
        await agent.ask(FrameType.HEARTBEAT, {"timestamp": 1})
        with trio.move_on_after(5):
            await agent.ask(FrameType.DISCONNECT, {"version": "1.0.0", "code": 1000, "reason": "bye"})
    mine = [(entry.what, entry.link) for entry in world.history.entries if entry.who == agent.device_id]
    assert mine[0] == ("dialled", 1)
    assert mine[mine.index(("closed", 1)) + 1] == ("ended", 1)
    (linked,) = told(world, GATEWAY, "DeviceLinked")
    assert isinstance(linked.about, DeviceLinked)
    assert linked.link == 1
    (line,) = told(world, LOG, "link opened")
    assert ("client_id", agent.device_id) in line.about


async def test_a_refused_upgrade_is_told_with_its_status(autojump_clock: MockClock):
    async with open_world(CONFIG) as world:
        with pytest.raises(NoLink):
            async with world.dial("/elsewhere", who="stranger"):
                pass
    assert [(entry.what, entry.about) for entry in world.history.entries if entry.who == "stranger"] == [
        ("dialled", None),
        ("refused", 404),
        ("ended", None),
    ]


async def test_the_numbers_at_the_end_are_told_without_those_of_real_time(autojump_clock: MockClock):
    async with open_world(CONFIG) as world:
        await world.links.start(world.agent().live)
    (metrics,) = told(world, GATEWAY, "metrics")
    names = {sample[0] for sample in metrics.about}
    assert ("signal_gateway_messages_total", ("direction", "in"), ("type", "connect"), 1) in metrics.about
    assert not [name for name in names if "handle_seconds" in name or "wake_seconds" in name]


async def test_faults_are_told_with_the_connection_that_they_befell(autojump_clock: MockClock):
    async with open_world(CONFIG, faults=FaultPlan(reset_chance=1.0)) as world:
        with pytest.raises(NoLink):
            async with world.dial():
                pass
    assert [(entry.what, entry.link) for entry in world.history.entries if entry.who == NETWORK] == [("reset", 1)]


async def test_a_network_and_a_history_go_on_from_world_to_world(autojump_clock: MockClock):
    history, network, database = History(), Network(), InlineDatabase()
    for _ in range(2):
        async with open_world(CONFIG, database=database, network=network, history=history) as world:
            await world.links.start(world.agent().live)
    assert [entry.link for entry in history.entries if entry.what == "DeviceLinked"] == [1, 2]
    assert len([entry for entry in history.entries if entry.what == "metrics"]) == 2


async def test_after_a_crash_nothing_of_the_gateway_is_told_or_kept(autojump_clock: MockClock):
    async with open_world(CONFIG) as world:
        phone = world.phone(1)
        await world.links.start(phone.live)
        await phone.report("sms_message", SMS)
        length = len(world.history.entries)
        image = world.crash()
        await trio.sleep(10)
    after = [entry for entry in world.history.entries[length:] if entry.who != phone.device_id]
    assert [(entry.who, entry.what) for entry in after] == [(NETWORK, "crash"), (NETWORK, "reset")]
    async with open_world(CONFIG, database=InlineDatabase(image=image), history=world.history) as again:
        (report,) = await filed(again.database, "sms_message")
        assert report.data["message"] == "hello"
        assert told(again, LOG, "links of before the restart ended")


async def test_faults_over_sockets_are_refused(autojump_clock: MockClock):
    with pytest.raises(ValueError, match="memory"):
        async with open_world(CONFIG, transport="sockets", faults=FaultPlan(cut_chance=1)):
            pass


def test_a_quiet_history_keeps_warnings_from_stderr_and_another_does_not(capsys: pytest.CaptureFixture[str]):
    async def main(quiet: bool) -> str:
        def refuse(_number: int) -> None:
            raise DatabaseDown

        history = History(quiet=quiet)
        async with open_world(CONFIG, history=history) as world:
            world.database.before_commit = refuse
            with trio.move_on_after(1):
                await world.phone(1).live()
        (first, *_) = [entry for entry in history.entries if entry.what == "the database takes no rows: trying again"]
        assert first.about[0] == "warning"
        return capsys.readouterr().err

    assert trio.run(main, True, clock=MockClock(autojump_threshold=0)) == ""
    assert "takes no rows" in trio.run(main, False, clock=MockClock(autojump_threshold=0))


async def test_a_digest_tells_histories_apart(autojump_clock: MockClock):
    one, same, other, later = (History() for _ in range(4))
    for history in (one, same):
        history.note("phone", "sent", "hello")
    other.note("phone", "sent", "hallo")
    await trio.sleep(1)
    later.note("phone", "sent", "hello")
    assert one.digest() == same.digest()
    assert len({history.digest() for history in (one, other, later)}) == 3
