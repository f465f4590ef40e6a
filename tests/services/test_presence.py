"""Links, activity and freshness of devices."""

from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select
from trio.testing import MockClock

from signal_gateway.bus.local import LocalBus
from signal_gateway.domain.device import DeviceStatus, Location, SimCard, SubscriberId
from signal_gateway.domain.events import DeviceDeleted, DeviceLinked, DeviceSeen, DeviceUnlinked
from signal_gateway.domain.principal import LinkKind, Principal
from signal_gateway.observe.metrics import Metrics
from signal_gateway.services.presence import NEVER_S, Presence, PresenceSettings
from signal_gateway.storage.rows import Insert, Upsert
from signal_gateway.storage.tables import connection_logs, device_status
from tests.services.conftest import ADDRESS, STARTED_MS, Services


def phone(device_id: str = "phone-1") -> Principal:
    return Principal(LinkKind.PHONE, device_id, "config:demo")


def presence_of(services: Services, **settings: Any) -> Presence:
    return Presence(services.database, services.writer, services.bus, PresenceSettings(**settings), services.metrics, services.wall_ms)


@pytest.fixture
async def presence(services: Services, nursery: trio.Nursery) -> Presence:
    made = presence_of(services)
    await nursery.start(made.run)
    return made


async def rows_of(services: Services, table: Any) -> list[Any]:
    await services.settle()
    return await services.database.read(lambda connection: connection.execute(select(table)).mappings().all())


def status_rows(services: Services) -> list[Any]:
    return [row for row in services.writer.rows if isinstance(row, Upsert)]


async def test_a_link_is_seen_at_once_and_on_disk_within_a_second(autojump_clock: MockClock, services: Services, presence: Presence):
    assert presence.link_opened(phone(), "session-1", ADDRESS) == 1

    view = presence.view("phone-1")
    assert view is not None
    assert (view.linked, view.generation, view.connected_at, view.fresh) == (True, 1, STARTED_MS, True)
    assert services.events == [DeviceLinked("phone-1", "phone", 1, STARTED_MS)]
    await trio.sleep(1.1)
    (row,) = await rows_of(services, device_status)
    assert (row["linked"], row["last_activity_at"]) == (True, STARTED_MS)


async def test_the_end_of_a_link_takes_the_device_offline_and_is_logged_with_its_duration(
    autojump_clock: MockClock, services: Services, presence: Presence
):
    presence.link_opened(phone(), "session-1", ADDRESS)
    await trio.sleep(12.5)
    presence.link_closed("phone-1", 1, "session-1", 4000, "silent")
    presence.link_closed("phone-1", 1, "session-1", 4000, "silent")

    view = presence.view("phone-1")
    assert view is not None
    assert (view.linked, view.connected_at, view.last_activity_at, view.fresh) == (False, None, STARTED_MS, True)
    assert services.of(DeviceUnlinked) == [DeviceUnlinked("phone-1", "phone", 1, STARTED_MS + 12_500, "silent")]
    (row,) = await rows_of(services, connection_logs)
    assert {name: row[name] for name in row if name != "id"} == {
        "device_id": "phone-1",
        "socket_id": "session-1",
        "client_type": "phone",
        "address": ADDRESS,
        "connected_at": STARTED_MS,
        "disconnected_at": STARTED_MS + 12_500,
        "duration_seconds": 12.5,
        "close_code": 4000,
        "reason": "silent",
    }
    await trio.sleep(1.1)
    (row,) = await rows_of(services, device_status)
    assert row["linked"] is False


async def test_the_end_of_a_replaced_link_does_not_take_the_device_offline(
    autojump_clock: MockClock, services: Services, presence: Presence
):
    first = presence.link_opened(phone(), "session-1", ADDRESS)
    second = presence.link_opened(phone(), "session-2", ADDRESS)
    presence.link_closed("phone-1", first, "session-1", 4500, "replaced")

    view = presence.view("phone-1")
    assert view is not None
    assert (view.linked, view.generation) == (True, second)
    assert services.of(DeviceUnlinked) == []
    assert sorted((row["socket_id"], row["close_code"]) for row in await rows_of(services, connection_logs)) == [
        ("session-1", 4500),
        ("session-2", None),
    ]


@given(st.lists(st.tuples(st.sampled_from(["open", "close", "close_again", "speak"]), st.integers(0, 30)), max_size=60))
def test_whatever_the_order_of_links_and_ends_the_device_is_linked_while_its_newest_link_is(steps: list[tuple[str, int]]):
    """The model: a list of links, each open or closed; the device is linked while the last of the list is open."""

    class Writer:
        def __init__(self) -> None:
            self.rows: list[Any] = []

        def put(self, rows: list[Any]) -> None:
            self.rows += rows

    async def run() -> None:
        writer, metrics = Writer(), Metrics()
        bus = LocalBus(metrics)
        events: list[str] = []
        bus.subscribe(DeviceLinked, lambda event: events.append("linked"))
        bus.subscribe(DeviceUnlinked, lambda event: events.append("unlinked"))
        presence = Presence(None, writer, bus, PresenceSettings(), metrics, lambda: STARTED_MS)  # pyright: ignore[reportArgumentType]
        is_open: list[bool] = []
        ended = 0
        for step, which in steps:
            if step == "open":
                is_open.append(True)
                assert presence.link_opened(phone(), f"session-{len(is_open)}", ADDRESS) == len(is_open)
            elif step == "speak":
                presence.heard_from("phone-1", DeviceStatus())
            elif is_open:
                link = which % len(is_open)
                ended += link == len(is_open) - 1 and is_open[link]
                is_open[link] = False
                presence.link_closed("phone-1", link + 1, f"session-{link + 1}", None, "left")
            view = presence.view("phone-1")
            assert (view is not None and view.linked) == bool(is_open and is_open[-1])
        assert events.count("linked") == len(is_open)
        assert events.count("unlinked") == ended
        assert len([row for row in writer.rows if isinstance(row, Insert)]) == len(is_open)
        assert len(writer.rows) == len(is_open) + is_open.count(False)

    trio.run(run)


async def test_states_are_written_at_most_once_a_second_and_the_latest_wins(
    autojump_clock: MockClock, services: Services, presence: Presence
):
    for level in range(50):
        presence.heard_from("phone-1", DeviceStatus(battery_level=level))
        await trio.sleep(0.1)
    await trio.sleep(2)

    assert [row.values["battery_level"] for row in status_rows(services)] == pytest.approx([9, 19, 29, 39, 49], abs=1)
    assert len(services.of(DeviceSeen)) == 50


async def test_what_a_heartbeat_leaves_out_keeps_its_last_value_across_a_restart(
    autojump_clock: MockClock, services: Services, nursery: trio.Nursery
):
    sims = (SimCard(slot_index=0, carrier_name="Turkcell", imei=SubscriberId("7518", "ab")),)
    before = presence_of(services)
    with trio.CancelScope() as running:
        await nursery.start(before.run)
        before.heard_from("phone-1", DeviceStatus(battery_level=80, network_type="LTE", sim_cards=sims, location=Location(41.0, 29.0)))
        before.heard_from("phone-1", DeviceStatus(battery_level=79))
        before.reported("phone-1", "maintenance")
        await trio.sleep(1.1)
        running.cancel()

    after = presence_of(services)
    after.heard_from("phone-1", DeviceStatus(signal_strength=3))
    found = await after.find("phone-1")

    assert found is not None
    assert found.status == DeviceStatus(79, None, 3, None, "LTE", sims, Location(41.0, 29.0))
    assert found.reported == "maintenance"
    assert await after.find("phone-2") is None


async def test_what_is_unwritten_when_the_services_end_goes_to_the_writer(autojump_clock: MockClock, services: Services):
    presence = presence_of(services)
    async with trio.open_nursery() as nursery:
        await nursery.start(presence.run)
        presence.heard_from("phone-1", DeviceStatus(battery_level=80))
        nursery.cancel_scope.cancel()

    assert [row.values["battery_level"] for row in status_rows(services)] == [80]


async def test_a_status_is_written_when_it_has_changed_and_again_when_there_was_no_room(
    autojump_clock: MockClock, services: Services, presence: Presence
):
    status, put = DeviceStatus(battery_level=80), services.writer.put
    presence.heard_from("phone-1", status)
    await trio.sleep(1.5)
    presence.heard_from("phone-1", status)  # the same object: it says what was said before, and only the time is written, later
    await trio.sleep(1)
    assert len(status_rows(services)) == 1
    await trio.sleep(60)
    services.writer.put = lambda rows: False
    presence.heard_from("phone-1", DeviceStatus(network_type="LTE"))
    await trio.sleep(3)
    services.writer.put = put
    await trio.sleep(1)

    told = [(row.values.get("battery_level"), row.values.get("network_type")) for row in status_rows(services)]
    assert told == [(80, None), (None, None), (80, "LTE")]
    found = await presence_of(services).find("phone-1")
    assert found is not None
    assert found.status == DeviceStatus(battery_level=80, network_type="LTE")


async def test_the_changed_states_of_a_whole_fleet_are_written_in_slices(autojump_clock: MockClock, services: Services, presence: Presence):
    for number in range(1201):
        presence.heard_from(f"phone-{number}", DeviceStatus(battery_level=5))
    sizes: list[int] = []
    put = services.writer.put
    services.writer.put = lambda rows: (sizes.append(len(rows)), put(rows))[1]
    await trio.sleep(1.5)

    assert sizes == [500, 500, 201]


async def test_a_message_without_a_status_publishes_nothing_and_writes_its_time_once_a_minute(
    autojump_clock: MockClock, services: Services, presence: Presence
):
    link = SpeakingLink()
    presence.link_opened(phone(), "session-1", ADDRESS, link)
    await trio.sleep(1.5)
    services.writer.rows.clear()
    services.events.clear()

    for _ in range(100):
        link.heard_at = trio.current_time()
        await trio.sleep(1)

    assert services.events == []
    (row,) = status_rows(services)
    assert row.values["last_activity_at"] == STARTED_MS + 60_500
    view = presence.view("phone-1")
    assert view is not None
    assert view.last_activity_at == STARTED_MS + 100_500


async def test_freshness_ends_seventy_five_seconds_after_the_last_word_while_the_link_stays(
    autojump_clock: MockClock, services: Services, presence: Presence
):
    presence.link_opened(phone(), "session-1", ADDRESS)
    seen: list[tuple[bool, bool]] = []
    for wait_s in (75, 1):
        await trio.sleep(wait_s)
        view = presence.view("phone-1")
        assert view is not None
        seen.append((view.linked, view.fresh))

    assert seen == [(True, True), (True, False)]


class SpeakingLink:
    """A link of which presence is not told when something is heard on it."""

    heard_at = NEVER_S


async def test_a_link_is_asked_when_it_was_last_heard_and_that_is_kept_after_its_end(
    autojump_clock: MockClock, services: Services, presence: Presence
):
    link = SpeakingLink()
    assert presence.link_opened(phone(), "session-1", ADDRESS, link) == 1
    for _ in range(40):
        await trio.sleep(10)
        link.heard_at = trio.current_time()
    view = presence.view("phone-1")
    assert view is not None
    assert (view.linked, view.fresh, view.last_activity_at) == (True, True, STARTED_MS + 400_000)
    assert services.of(DeviceUnlinked) == []

    await trio.sleep(315)
    assert [event.reason for event in services.of(DeviceUnlinked)] == ["silent"]
    link.heard_at = trio.current_time()
    await trio.sleep(10)
    assert [event.generation for event in services.of(DeviceLinked)] == [1, 1]

    presence.link_closed("phone-1", 1, "session-1", 1000, "left")
    heard_at = link.heard_at
    link.heard_at = 1e9
    view = presence.view("phone-1")
    assert view is not None
    assert view.last_activity_at == STARTED_MS + round(1000 * heard_at)


async def test_when_something_was_last_heard_of_an_agent_is_on_disk_within_a_minute(
    autojump_clock: MockClock, services: Services, presence: Presence
):
    """Though nobody tells of its heartbeats; of a fleet never many at once, and of one who says nothing never."""
    links = [SpeakingLink() for _ in range(600)]
    for number, link in enumerate(links):
        presence.link_opened(Principal(LinkKind.AGENT, f"agent-{number}", "key"), f"session-{number}", ADDRESS, link)
    presence.link_opened(Principal(LinkKind.AGENT, "silent", "key"), "session", ADDRESS, SpeakingLink())
    await trio.sleep(1.5)
    services.writer.rows.clear()
    seconds: list[int] = []
    for _ in range(120):
        for link in links:
            link.heard_at = trio.current_time()
        before = len(services.writer.rows)
        await trio.sleep(1)
        seconds.append(len(services.writer.rows) - before)

    assert set(seconds) == {10}
    rows = await rows_of(services, device_status)
    assert {row["device_id"] for row in rows if STARTED_MS + 121_500 - row["last_activity_at"] > 61_000} == {"silent"}


async def test_a_link_that_is_silent_for_five_minutes_counts_as_gone_until_it_speaks_again(
    autojump_clock: MockClock, services: Services, presence: Presence
):
    presence.link_opened(phone(), "session-1", ADDRESS)
    await trio.sleep(311)

    view = presence.view("phone-1")
    assert view is not None
    assert not view.linked
    (unlinked,) = services.of(DeviceUnlinked)
    assert (unlinked.generation, unlinked.reason) == (1, "silent")
    assert 300_000 <= unlinked.at - STARTED_MS <= 311_000

    presence.heard_from("phone-1", DeviceStatus())
    view = presence.view("phone-1")
    assert view is not None
    assert view.linked
    assert [event.generation for event in services.of(DeviceLinked)] == [1, 1]
    presence.link_closed("phone-1", 1, "session-1", 1000, "left")
    assert len(services.of(DeviceUnlinked)) == 2


async def test_after_a_crash_open_lines_of_the_log_are_closed_and_nobody_is_linked(
    autojump_clock: MockClock, services: Services, nursery: trio.Nursery
):
    crashed = presence_of(services)
    with trio.CancelScope() as running:
        await nursery.start(crashed.run)
        crashed.link_opened(phone("phone-1"), "session-1", ADDRESS)
        crashed.link_opened(phone("phone-2"), "session-2", ADDRESS)
        await trio.sleep(10)
        crashed.heard_from("phone-1", DeviceStatus(battery_level=5))
        await trio.sleep(1.1)
        running.cancel()

    await nursery.start(presence_of(services).run)

    lines = {row["socket_id"]: row for row in await rows_of(services, connection_logs)}
    assert {row["reason"] for row in lines.values()} == {"server_restart"}
    assert (lines["session-1"]["disconnected_at"], lines["session-1"]["duration_seconds"]) == (STARTED_MS + 10_000, 10.0)
    assert (lines["session-2"]["disconnected_at"], lines["session-2"]["duration_seconds"]) == (STARTED_MS, 0.0)
    assert [row["linked"] for row in await rows_of(services, device_status)] == [False, False]


async def test_devices_that_are_long_gone_leave_memory_and_are_found_on_disk(
    autojump_clock: MockClock, services: Services, presence: Presence
):
    presence.link_opened(phone("gone"), "session-1", ADDRESS)
    presence.link_opened(phone("here"), "session-2", ADDRESS)
    presence.link_closed("gone", 1, "session-1", 1000, "left")
    await trio.sleep(3611)

    assert presence.view("gone") is None
    assert presence.view("here") is not None
    found = await presence.find("gone")
    assert found is not None
    assert (found.linked, found.last_activity_at) == (False, STARTED_MS)


@pytest.mark.parametrize("forgotten_by", ["deletion", "age"])
async def test_a_device_that_was_forgotten_comes_back_by_a_number_that_no_link_of_it_had(
    autojump_clock: MockClock, services: Services, nursery: trio.Nursery, forgotten_by: str
):
    """Whoever remembers it by its last link would take the next one for that."""
    presence = presence_of(services, forget_after_s=5.0, sweep_s=1.0)
    await nursery.start(presence.run)
    first = presence.link_opened(phone(), "session-1", ADDRESS)
    presence.link_closed("phone-1", first, "session-1", 1000, "went")
    if forgotten_by == "deletion":
        services.bus.publish(DeviceDeleted("phone-1"))
    await trio.sleep(10)
    assert presence.view("phone-1") is None
    assert presence.link_opened(phone(), "session-2", ADDRESS) > first


async def test_memory_of_devices_without_a_link_is_bounded_and_nothing_unwritten_is_lost(autojump_clock: MockClock, services: Services):
    presence = presence_of(services, offline_kept=10)
    presence.link_opened(phone("linked"), "session-1", ADDRESS)

    for number in range(100):
        presence.heard_from(f"phone-{number}", DeviceStatus(battery_level=number))

    known = [number for number in range(100) if presence.view(f"phone-{number}") is not None]
    assert known == list(range(90, 100))
    assert presence.view("linked") is not None
    assert [row.values["battery_level"] for row in status_rows(services)] == list(range(90))
    assert services.metrics.limits.value("presence.offline_kept") == 90


async def test_the_metrics_tell_how_many_are_linked(autojump_clock: MockClock, services: Services, presence: Presence):
    presence.link_opened(phone("a"), "session-1", ADDRESS)
    presence.link_opened(phone("b"), "session-2", ADDRESS)
    presence.link_closed("a", 1, "session-1", 1000, "left")

    text = services.metrics.text().decode()
    assert "signal_gateway_devices_linked 1.0" in text
    assert "signal_gateway_devices_remembered 2.0" in text


@pytest.mark.parametrize("wrong", [{"fresh_s": 0}, {"status_write_s": 0}, {"offline_after_s": -1}, {"offline_kept": 0}])
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, Any]):
    with pytest.raises(ValueError, match="must"):
        PresenceSettings(**wrong)
