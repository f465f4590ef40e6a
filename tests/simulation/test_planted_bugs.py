"""The checker is checked: a gateway with a bug in it is found out, and each time for the right reason."""

import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import trio

from protocol.phone_reports import PhoneReport
from signal_gateway.domain.events import DeviceUnlinked
from signal_gateway.services.presence import Presence
from signal_gateway.services.reports import Reports
from signal_gateway.storage import devices, records
from signal_gateway.storage.batch_writer import BatchWriter
from signal_gateway.testing.checker import check
from signal_gateway.testing.simulation import simulate
from signal_gateway.testing.simulation_plan import SimulationPlan
from signal_gateway.websocket import agents, listener, phones
from signal_gateway.websocket.hub import Hub
from signal_gateway.websocket.link import Link
from signal_gateway.websocket.stream import LinkStream

pytestmark = pytest.mark.slow

PLAN = SimulationPlan(phones=4, agents=6, doubles=4, storm_s=600, calm_s=300, lives=3, report_every_s=60, unregister_every_s=200)
SEEDS = (14, 15, 0, 1, 2, 3)
"""Those first in which the rarest of them shows: a crash between an acknowledgement and its commit."""

Plant = Callable[[pytest.MonkeyPatch], None]


def acknowledge_before_the_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    file = Reports.file

    def file_and_tell(self: Reports, report: Any, on_durable: Any = None, on_failed: Any = None, report_id: Any = None) -> None:
        file(self, report, None, on_failed, report_id)
        if on_durable is not None:
            on_durable()

    monkeypatch.setattr(Reports, "file", file_and_tell)


def file_reports_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    file = Reports.file

    def file_twice(self: Reports, report: Any, on_durable: Any = None, on_failed: Any = None, report_id: Any = None) -> None:
        file(self, report)
        file(self, report, on_durable, on_failed, report_id)

    monkeypatch.setattr(Reports, "file", file_twice)


def lose_the_rows_of_a_failed_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    def give_back(self: BatchWriter) -> None:
        self._rows_waiting -= sum(len(getattr(entry, "rows", (1,))) for entry in self._in_flight)
        self._in_flight = ()

    monkeypatch.setattr(BatchWriter, "_give_back", give_back)


def write_again_what_is_in_doubt(monkeypatch: pytest.MonkeyPatch) -> None:
    async def ask_again(self: BatchWriter, _doubt: Any) -> None:
        await trio.lowlevel.checkpoint()
        self._doubt = None
        self._give_back()

    monkeypatch.setattr(BatchWriter, "_ask_again", ask_again)


def acknowledge_in_reverse(monkeypatch: pytest.MonkeyPatch) -> None:
    settle = BatchWriter._settle

    async def settle_in_reverse(self: BatchWriter, written: Any) -> None:
        self._in_flight = [*reversed(self._in_flight)]
        await settle(self, written)

    monkeypatch.setattr(BatchWriter, "_settle", settle_in_reverse)


def forget_some_acknowledgements(monkeypatch: pytest.MonkeyPatch) -> None:
    acknowledge, asked = Link.acknowledge, [0]

    def forget(self: Link, question: Any, message_id: str | None = None) -> None:
        asked[0] += 1
        if asked[0] % 5:
            acknowledge(self, question, message_id)

    monkeypatch.setattr(Link, "acknowledge", forget)


def acknowledge_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    acknowledge = Link.acknowledge

    def twice(self: Link, question: Any, message_id: str | None = None) -> None:
        acknowledge(self, question, message_id)
        acknowledge(self, question, message_id)

    monkeypatch.setattr(Link, "acknowledge", twice)


def skip_the_generation_check(monkeypatch: pytest.MonkeyPatch) -> None:
    link_closed = Presence.link_closed

    def close_whatever(self: Presence, device_id: str, generation: int, session_id: str, close_code: int | None, reason: str) -> None:
        link_closed(self, device_id, generation, session_id, close_code, reason)
        device = self._devices.get(device_id)
        if device is not None and device.linked:
            self._go_offline(device)
            self._bus.publish(DeviceUnlinked(device_id, device.kind, generation, self._wall_ms(), reason))

    monkeypatch.setattr(Presence, "link_closed", close_whatever)


def leave_the_older_link_its_voice(monkeypatch: pytest.MonkeyPatch) -> None:
    def claim(self: Hub, link: Any, client_id: str) -> None:
        self._by_client[client_id] = link

    monkeypatch.setattr(Hub, "claim", claim)


def register_without_a_record(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "register", lambda *_: None)


def unregister_without_forgetting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "unregister", lambda *_: True)


def forget_to_close_the_row_of_a_link(monkeypatch: pytest.MonkeyPatch) -> None:
    row = records.link_closed_row
    monkeypatch.setattr(records, "link_closed_row", lambda session_id, *rest: row(f"not {session_id}", *rest))


def leave_open_what_a_crash_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "close_abandoned", lambda *_: 0)


def forget_to_tell_presence_of_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Link, "_tell_presence", lambda self: None)


def keep_ended_links_in_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Hub, "remove", lambda self, link: None)


def swallow_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    pump = LinkStream._pump_by_task

    async def pump_on(self: LinkStream) -> None:
        try:
            await pump(self)
        except trio.Cancelled:
            with trio.CancelScope(shield=True):
                await trio.sleep(600)

    monkeypatch.setattr(LinkStream, "_pump_by_task", pump_on)


def fail_at_some_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    heard = 0

    def fail(link: Link, message: Any, question: Any) -> None:
        nonlocal heard
        heard += 1
        if heard == 50:
            raise ZeroDivisionError
        phones.hear_report(link, message, question)

    after = {**agents.AGENT_EARS.after, PhoneReport: fail}
    monkeypatch.setattr(listener, "AGENT_EARS", replace(agents.AGENT_EARS, after=after))


FOUND_OUT: list[tuple[Plant, str]] = [
    (acknowledge_before_the_commit, "was acknowledged before it was on disk"),
    (acknowledge_before_the_commit, "was acknowledged and is lost"),
    (file_reports_twice, "times and is kept"),
    (lose_the_rows_of_a_failed_batch, "was never answered"),
    (write_again_what_is_in_doubt, "times and is kept"),
    (acknowledge_in_reverse, "before one that was asked earlier"),
    (forget_some_acknowledgements, "was never answered"),
    (acknowledge_twice, "was answered 2 times"),
    (skip_the_generation_check, "took it offline, not the newest"),
    (leave_the_older_link_its_voice, "was heard after"),
    (leave_the_older_link_its_voice, "was acknowledged after another link"),
    (register_without_a_record, "and its record is lost"),
    (unregister_without_forgetting, "and its record is there"),
    (forget_to_close_the_row_of_a_link, "was written 0 times"),
    (leave_open_what_a_crash_left, "to None"),
    (forget_to_tell_presence_of_the_end, "has no link, and presence says it has"),
    (keep_ended_links_in_the_hub, "signal_gateway_links"),
    (swallow_cancelled, "s to end"),
    (fail_at_some_reports, "a handler failed"),
]


TRIED = FOUND_OUT if "SIMULATED_SEEDS" in os.environ else FOUND_OUT[::3]
"""Each takes a second or several: on a change every third, in a longer run of simulations all."""


@pytest.mark.parametrize(("plant", "words"), TRIED, ids=[f"{plant.__name__}: {words}" for plant, words in TRIED])
def test_a_planted_bug_is_found_out(monkeypatch: pytest.MonkeyPatch, plant: Plant, words: str):
    plant(monkeypatch)
    found: list[str] = []
    for seed in SEEDS:
        found += check(simulate(PLAN, seed))
        if any(words in finding for finding in found):
            return
    pytest.fail(f"not among the findings: {words!r}\n" + "\n".join(found[:20]))


def test_without_a_bug_nothing_is_found():
    assert [finding for seed in SEEDS[:2] for finding in check(simulate(PLAN, seed))] == []
