"""What phones may say, and where it goes (seed 000). A phone is authenticated before its upgrade is answered: CONTRACT.md §1, §3."""

from collections.abc import Callable, Mapping
from hashlib import blake2b

import msgspec

from protocol.dialect import Question, acknowledged
from protocol.phone_commands import ConnectionEstablished
from protocol.phone_reports import DeviceStatusData, HeartbeatData, PhoneReport
from protocol.phone_reports import Location as ReportedLocation
from protocol.phone_reports import SimCard as ReportedSim
from signal_gateway.domain.alarm import SIM_SLOTS
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
PERCENT_MAX = 100
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
    """File one of the reports of seed 000 §4. What it tells of the device's condition goes to presence, too, its group to placements.

    Answered unless it is a phone's JSON without a `request_id`, for which the source has no answer. A report is acknowledged after its
    commit, a heartbeat and a device_status once the writer has them (CONTRACT.md §2); where it takes no more, they are refused.
    """
    door, device_id, data = link.door, link.client_id, message.data
    report = Report(device_id, message.type, message.raw, door.wall_ms(), message.timestamp, message.message_id)
    if isinstance(data, HeartbeatData):
        link.status_told = status_of(data, door.subscriber_ids)
        door.presence.heard_from(device_id, link.status_told, link.heard_at)
        if (info := data.device_info) is not None:
            door.placements.hear(device_id, info.device_group, info.sitename)
    elif isinstance(data, DeviceStatusData):
        door.presence.reported(device_id, data.status)
        door.placements.hear(device_id, data.device_group, data.sitename)
    else:
        _hear_event(link, report, question)
        return
    is_taken = door.reports.file(report)
    if not _is_answered(question):
        return
    if is_taken:
        link.acknowledge(question, message.message_id)
    else:
        link.refuse(question, DatabaseDown())


def _hear_event(link: Link, report: Report, question: Question) -> None:
    """What has happened happened once, however often it is told: only at first is it filed, and heard as the answer to a command.

    A condition that is told again, as a heartbeat tells it, is the newest one all the same.
    """
    door, report_id = link.door, report_id_of(question, report)

    def acknowledge() -> None:
        link.acknowledge(question, report.message_id)

    def refuse() -> None:
        link.refuse(question, DatabaseDown())

    if report_id is not None and door.reports.is_known(report_id):
        door.reports.hear_repeated(report_id, acknowledge, refuse)
    elif (answer := answer_of(report, report_id)) is not None and not door.dispatcher.reports.hear(answer):
        refuse()  # what it answers comes first: a report that is acknowledged has done its work
    elif _is_answered(question):
        door.reports.file(report, acknowledge, refuse, report_id)
    else:
        door.reports.file(report)


def _is_answered(question: Question) -> bool:
    return question.answer_type != JSON_ACK or question.request_id is not None


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


def report_id_of(question: Question, report: Report) -> str | None:
    """What only the same report told again has, too: the `request_id` of its JSON or the UUID of its frame, with all that it reports.

    The id alone would not do: a counter may begin anew with each link, and what comes then is no repetition. The envelope's `timestamp`
    is left out, for it may be that of the telling. 32 characters. None for JSON that names no id: it may say the same of something else.
    """
    own_id = question.request_id if question.is_text else question.uuid.hex()
    if own_id is None:
        return None
    said = (report.device_id, own_id, report.type, report.message_id, report.data)
    return blake2b(msgspec.json.encode(said, order="deterministic"), digest_size=16).hexdigest()


def status_of(data: HeartbeatData, subscriber_ids: SubscriberIds) -> DeviceStatus:
    """A heartbeat as a status: what was not sent is None, and subscriber ids are redacted (C-36).

    So is what cannot be: a battery of 101 percent, a place off the globe. A SIM in no slot is none. Android says -1 where it does not know,
    and a heartbeat with that in it is not to be refused whole (W-32).
    """
    battery, cards, location = data.battery_level, data.sim_cards, data.location
    return DeviceStatus(
        battery_level=battery if battery is None or 0 <= battery <= PERCENT_MAX else None,
        battery_status=_word(data.battery_status),
        signal_strength=data.signal_strength,
        signal_dbm=data.signal_dbm,
        network_type=_word(data.network_type),
        sim_cards=None if cards is None else tuple([_sim_of(card, subscriber_ids) for card in cards if 0 <= card.slot_index < SIM_SLOTS]),
        location=None if location is None or not _is_on_earth(location) else Location(location.latitude, location.longitude),
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


def _is_on_earth(location: ReportedLocation) -> bool:
    return -90 <= location.latitude <= 90 and -180 <= location.longitude <= 180


def _word(text: str | None) -> str | None:
    return None if text is None else text[:STATUS_WORD_CHARS_MAX]


REPORT_HANDLERS: Mapping[type, Handler] = {PhoneReport: hear_report}
"""What any device may report, be it a phone or an agent."""

PHONE_EARS = Ears(before={}, after={**REPORT_HANDLERS, **COMMAND_HANDLERS}, said_again=hear_again)
