"""What devices report of their commands: which command is meant (C-24). That it is told for the first time, the file of reports knows."""

from collections.abc import Callable, Mapping
from functools import partial
from random import Random

from signal_gateway.bus.local import Bus
from signal_gateway.domain.command_answers import Answer, Outcome
from signal_gateway.domain.command_rules import CommandEvent, Heard
from signal_gateway.domain.events import DeliveryTold
from signal_gateway.observe.metrics import Metrics
from signal_gateway.services.command_lanes import Lane
from signal_gateway.services.device_directory import DeviceDirectory, KnownDevice
from signal_gateway.services.sim_rules import SimRulesOf
from signal_gateway.storage.command_changes import Applied

Told = Callable[[Applied], None]
Post = Callable[[CommandEvent, KnownDevice | None, Told, Callable[[], None] | None], bool]
"""Has an event applied: see `Dispatcher`."""


class CommandReports:
    """Hands each report on as an event. `lanes` are those of linked devices; `follow` is told what has changed.

    Publishes DeliveryTold for a delivery report that changes no command.
    """

    def __init__(
        self, bus: Bus, lanes: Mapping[str, Lane], directory: DeviceDirectory, rules: SimRulesOf, post: Post, follow: Told, metrics: Metrics
    ) -> None:
        self._bus = bus
        self._lanes = lanes
        self._directory = directory
        self._read_balance = rules.read_balance
        self._post = post
        self._follow = follow
        self.random = Random()
        """Spreads retries; a simulated world has it drawn from its seed."""
        self._answered: set[str | None] = set()  # commands whose answers are being written
        self._unmatched = metrics.counter("command_reports_unmatched_total", "Reports that answer no command we know.")
        self._late = metrics.counter("command_reports_late_total", "Reports about commands that were past them already.")

    def hear(self, answer: Answer) -> bool:
        """A device has reported. False when there is no room for it: the report must come again."""
        if answer.outcome is Outcome.PENDING:
            return True
        answer = self._read_balance(answer)
        lane = self._lanes.get(answer.device_id)
        message_id = answer.message_id
        if message_id is None and lane is not None and not answer.is_delivery_report:
            message_id = lane.match(answer, self._answered)
        device = lane.device if lane else KnownDevice(answer.device_id, "", None, self._directory.settings_of_all)
        if message_id is not None and answer.outcome is not Outcome.ACCEPTED:
            self._answered.add(message_id)  # a second report without an id is not about this one, too

        def failed() -> None:
            self._answered.discard(message_id)

        return self._post(Heard(answer, message_id, self.random.random()), device, partial(self._heard, message_id, answer), failed)

    def _heard(self, message_id: str | None, answer: Answer, applied: Applied) -> None:
        self._answered.discard(message_id)
        if applied.before is None:
            self._unmatched.add()
        elif applied.change is None:
            self._late.add()
        else:
            self._follow(applied)
            return
        if answer.is_delivery_report and answer.outcome in (Outcome.DELIVERED, Outcome.FAILED):
            sim_slot = answer.sim_slot if applied.before is None else applied.before.sim_slot
            self._bus.publish(DeliveryTold(answer.device_id, sim_slot, answer.outcome is Outcome.DELIVERED))
