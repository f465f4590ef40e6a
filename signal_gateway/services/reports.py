"""What devices report: filed as it was sent, subscriber ids redacted (T-17 to T-35)."""

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
import trio

from signal_gateway.bus.local import Bus
from signal_gateway.domain.events import ReportFiled
from signal_gateway.domain.report import Report
from signal_gateway.observe.metrics import Metrics
from signal_gateway.services.remembered import Remembered
from signal_gateway.services.subscriber_ids import SubscriberIds
from signal_gateway.storage import records
from signal_gateway.storage.batch_writer import BatchWriter

HEARTBEAT = "heartbeat"

# What tells one state of a phone from another. Battery percent and signal move with every beat: the latest status has them.
STATE_FIELDS = ("battery_status", "network_type")
SIM_STATE_FIELDS = (
    "slot_index",
    "is_active",
    "carrier_name",
    "phone_number",
    "network_mcc",
    "network_mnc",
    "network_type",
    "imei",
    "imsi",
    "iccid",
)


class ReportsSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Section `[reports]`."""

    history_s: float = 300.0
    """A heartbeat is filed this often per device, and whenever charging, network or SIMs changed; the others only show in the status."""
    keep_subscriber_ids: bool = False
    """Keep IMEI, IMSI and ICCID whole in filed reports, instead of their last four characters and a digest (C-36)."""
    heartbeat_devices_kept: int = 100_000
    """Devices whose last filed heartbeat is remembered; of one forgotten beyond it, the next heartbeat is filed."""
    repeats_known_s: float = 3600.0
    """A report is known by its id for so long: the same one again is acknowledged, not filed and counted again (H19). 0 = not at all."""
    repeats_known_max: int = 50_000
    """Reports that are known so; of one forgotten beyond it, a repetition is filed again."""

    def __post_init__(self) -> None:
        if self.history_s < 0 or self.heartbeat_devices_kept < 1:
            raise ValueError("history_s must not be below 0, heartbeat_devices_kept must be above 0")
        if self.repeats_known_s < 0 or self.repeats_known_max < 1:
            raise ValueError("repeats_known_s must not be below 0, repeats_known_max must be above 0")


class Reports:
    """The file of all reports. `file` never waits."""

    def __init__(
        self,
        writer: BatchWriter,
        bus: Bus,
        subscriber_ids: SubscriberIds,
        settings: ReportsSettings,
        metrics: Metrics,
    ) -> None:
        self._writer = writer
        self._bus = bus
        self._subscriber_ids = subscriber_ids
        self._settings = settings
        self._filed_beats: OrderedDict[str, tuple[float, int]] = OrderedDict()  # device id: when, and in which state
        self._known = Remembered(settings.repeats_known_max, settings.repeats_known_s)  # by their ids
        self._limits = metrics.limits
        self._repeated = metrics.counter("reports_repeated_total", "Reports that were told again and filed once.")
        self._spared = metrics.counter("heartbeats_spared_total", "Heartbeats that told nothing new and went into no history.")

    def file(
        self,
        report: Report,
        on_durable: Callable[[], None] | None = None,
        on_failed: Callable[[], None] | None = None,
        report_id: str | None = None,
    ) -> bool:
        """File one report; `on_durable` is called once it is on disk. Publishes ReportFiled with what is filed.

        Returns whether the writer has it. `on_failed` is called instead of `on_durable` when the database refuses the report, or the writer
        has no room for it: then nothing is published. By `report_id` it `is_known` from now on, unless it fails.

        A heartbeat that tells nothing new within `history_s` is not filed: there is nothing to wait for, so `on_durable` is called at once,
        and it counts as taken. After one that failed the next is news, whatever it tells.
        """
        if report.type == HEARTBEAT:
            state = _state(report.data)
            if not self._is_news(report.device_id, state):
                self._spared.add()
                if on_durable is not None:
                    on_durable()
                return True
            on_failed = self._beat_noted(report.device_id, state, on_failed)
        if not self._settings.keep_subscriber_ids:
            report = msgspec.structs.replace(report, data=self._subscriber_ids.redact_data(report.data))
        if report_id is not None:
            on_failed = self._noted(report_id, on_failed)
        if self._writer.put([records.report_row(report)], on_durable, on_failed):
            self._bus.publish(ReportFiled(report))
            return True
        if on_failed is not None:
            on_failed()
        return False

    def is_known(self, report_id: str) -> bool:
        """Whether a report of this id was given to `file` within `repeats_known_s`: on disk it may not be yet."""
        return report_id in self._known

    def hear_repeated(self, report_id: str, on_durable: Callable[[], None], on_failed: Callable[[], None]) -> None:
        """One that `is_known` is told again: one of the two is called once the database has taken or refused the first."""
        self._repeated.add()

        def done(_: object) -> None:
            (on_durable if report_id in self._known else on_failed)()

        if not self._writer.post(_do_nothing, None, done):  # which is told behind the first, and counts as what waits
            on_failed()

    def _noted(self, report_id: str, on_failed: Callable[[], None] | None) -> Callable[[], None]:
        if not self._known.note(report_id):
            self._limits.add("reports.repeats_known_max")

        def failed() -> None:
            self._known.forget(report_id)  # it was not written, and is news when it comes again
            if on_failed is not None:
                on_failed()

        return failed

    def spares(self, device_id: str, now_s: float) -> bool:
        """Whether a heartbeat that says the same as the one before goes into no history, as `file` would find."""
        filed = self._filed_beats.get(device_id)
        return filed is not None and now_s - filed[0] < self._settings.history_s

    def spared(self) -> None:
        """A heartbeat went into no history, as `spares` allowed."""
        self._spared.values[()] += 1

    def _is_news(self, device_id: str, state: int) -> bool:
        filed = self._filed_beats.get(device_id)
        return filed is None or filed[1] != state or trio.current_time() - filed[0] >= self._settings.history_s

    def _beat_noted(self, device_id: str, state: int, on_failed: Callable[[], None] | None) -> Callable[[], None]:
        self._filed_beats[device_id] = (trio.current_time(), state)
        self._filed_beats.move_to_end(device_id)
        if len(self._filed_beats) > self._settings.heartbeat_devices_kept:
            self._filed_beats.popitem(last=False)
            self._limits.add("reports.heartbeat_devices_kept")

        def failed() -> None:
            self._filed_beats.pop(device_id, None)  # history lacks it: the next one must not be spared for the sake of it
            if on_failed is not None:
                on_failed()

        return failed


def _do_nothing(_: object, items: Sequence[None]) -> Sequence[None]:
    return items


def _state(data: Mapping[str, Any]) -> int:
    """A number that is equal while the state is: the ids themselves are not kept for this."""
    cards = data.get("sim_cards") or ()
    sims = [tuple(map(card.get, SIM_STATE_FIELDS)) for card in cards if isinstance(card, dict)]
    state = (*map(data.get, STATE_FIELDS), *sims)
    try:
        return hash(state)
    except TypeError:  # lists where words should be: no door lets them pass
        return hash(repr(state))
