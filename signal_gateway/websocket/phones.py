"""What phones may say, and where it goes (seed 000). A phone is authenticated before its upgrade is answered: CONTRACT.md §1, §3."""

from collections.abc import Callable, Mapping

from protocol.dialect import Question, acknowledged
from protocol.phone_commands import ConnectionEstablished
from protocol.phone_reports import DeviceStatusData, HeartbeatData, PhoneReport
from protocol.phone_reports import SimCard as ReportedSim
from signal_gateway.domain.command_answers import answer_of
from signal_gateway.domain.device import DeviceStatus, Location, SimCard
from signal_gateway.domain.errors import DatabaseDown
from signal_gateway.domain.report import Report
from signal_gateway.services.authentication import PhoneAdmission
from signal_gateway.services.subscriber_ids import SubscriberIds
from signal_gateway.websocket.commands import COMMAND_HANDLERS
from signal_gateway.websocket.ears import Ears, Handler
from signal_gateway.websocket.link import Link

JSON_ACK = "ack"
"""The answer of a phone's JSON, which has none in the source: only what carries a `request_id` gets it."""
STATUS_WORD_CHARS_MAX = 32
"""Characters of a word that the latest status keeps: `charging`, `LTE`."""


def greet_phone(admission: PhoneAdmission, arrived: Callable[[], None]) -> Callable[[Link], None]:
    """The first message of a phone's link: its settings, and its own key if it asked for one (T-10, CONTRACT.md §3).

    `arrived` is called when the link speaks for the phone.
    """

    def greet(link: Link) -> None:
        link.authenticated(admission.principal)
        arrived()
        link.say(ConnectionEstablished(settings=admission.settings, device_key=admission.device_key), "connection_established")

    return greet


def hear_report(link: Link, message: PhoneReport, question: Question) -> None:
    """File one of the reports of seed 000 §4; what it tells of the device's condition goes to presence, too.

    Answered unless it is a phone's JSON without a `request_id`, for which the source has no answer. A report is acknowledged after its
    commit, a heartbeat and a device_status once the writer has them (CONTRACT.md §2).
    """
    door, device_id, data = link.door, link.client_id, message.data
    if isinstance(data, HeartbeatData):
        link.status_told = status_of(data, door.subscriber_ids)
        door.presence.heard_from(device_id, link.status_told, link.heard_at)
    elif isinstance(data, DeviceStatusData):
        door.presence.reported(device_id, data.status)
    report = Report(device_id, message.type, message.raw, door.wall_ms(), message.timestamp, message.message_id)
    if (
        not isinstance(data, HeartbeatData)
        and (answer := answer_of(report, report_id_of(question))) is not None
        and not door.dispatcher.reports.hear(answer)
    ):
        link.refuse(question, DatabaseDown())  # what it answers comes first: a report that is acknowledged has done its work
        return
    if question.answer_type == JSON_ACK and question.request_id is None:
        door.reports.file(report)
    elif isinstance(data, HeartbeatData | DeviceStatusData):
        door.reports.file(report)
        link.acknowledge(question, message.message_id)
    else:
        door.reports.file(report, lambda: link.acknowledge(question, message.message_id), lambda: link.refuse(question, DatabaseDown()))


def hear_again(link: Link, status: DeviceStatus, request_id: str | None) -> bool:
    """A heartbeat that says the same as the last one: status, alarms and history have seen it. Not if history is to have one again."""
    door, client_id, now = link.door, link.client_id, link.heard_at
    if not door.reports.spares(client_id, now) or not link.is_within_rate():
        return False
    door.reports.spared()
    door.presence.heard_from(client_id, status, now)
    if request_id is not None:
        link.put(True, acknowledged(request_id), "heartbeat_ack")
    return True


def report_id_of(question: Question) -> str | None:
    """By which a device knows its report: the `request_id` of its JSON, the UUID of its frame. None for JSON that names none."""
    return question.request_id if question.is_text else question.uuid.hex()


def status_of(data: HeartbeatData, subscriber_ids: SubscriberIds) -> DeviceStatus:
    """A heartbeat as a status: what was not sent is None, and subscriber ids are redacted (C-36)."""
    location = data.location
    return DeviceStatus(
        battery_level=data.battery_level,
        battery_status=_word(data.battery_status),
        signal_strength=data.signal_strength,
        signal_dbm=data.signal_dbm,
        network_type=_word(data.network_type),
        sim_cards=None if data.sim_cards is None else tuple(_sim_of(card, subscriber_ids) for card in data.sim_cards),
        location=None if location is None else Location(location.latitude, location.longitude),
    )


def _sim_of(card: ReportedSim, subscriber_ids: SubscriberIds) -> SimCard:
    redact = subscriber_ids.redact
    return SimCard(
        slot_index=card.slot_index,
        carrier_name=card.carrier_name,
        phone_number=card.phone_number,
        network_mcc=card.network_mcc,
        network_mnc=card.network_mnc,
        is_active=card.is_active,
        imei=redact(card.imei) if card.imei else None,
        imsi=redact(card.imsi) if card.imsi else None,
        iccid=redact(card.iccid) if card.iccid else None,
        signal_strength=card.signal_strength,
        signal_dbm=card.signal_dbm,
        network_type=card.network_type,
    )


def _word(text: str | None) -> str | None:
    return None if text is None else text[:STATUS_WORD_CHARS_MAX]


REPORT_HANDLERS: Mapping[type, Handler] = {PhoneReport: hear_report}
"""What any device may report, be it a phone or an agent."""

PHONE_EARS = Ears(before={}, after={**REPORT_HANDLERS, **COMMAND_HANDLERS}, said_again=hear_again)
