"""Which failures speak of a SIM, its carrier or the radio, and which of the message alone (T-39)."""

from typing import Any

import pytest

from signal_gateway.domain.alarm import AlarmType, blocked_by
from signal_gateway.domain.command import CommandKind
from signal_gateway.domain.command_answers import SMS_PERMANENT, answer_of
from signal_gateway.domain.report import Report
from tests.domain.commands_made import AT

NO_SERVICE, RADIO_OFF, ARGUMENTS, NO_SIM = 4, 2, 104, 120


def failed(kind: str, **data: Any) -> Report:
    said = {"phone_number": "+905551234567", "status": "failed", **data}
    return Report(device_id="phone-1", type=kind, data=said, received_at=AT)


@pytest.mark.parametrize(
    ("report", "blames"),
    [
        (failed("sms_log"), True),
        *((failed("sms_log", error_code=code), True) for code in (1, RADIO_OFF, NO_SERVICE, 10, NO_SIM)),
        *((failed("sms_log", error_code=code), False) for code in sorted(SMS_PERMANENT)),
        (failed("sms_log", status="sent", error_code=NO_SERVICE), False),
        (failed("sms_delivery_report"), False),
        *((failed("rcs_log", error_code=code), False) for code in (None, 1, NO_SERVICE)),
        (failed("rcs_log", delivery_report=True), False),
        *((failed("ussd_response_failed", failure_code=code), code in (1, 4)) for code in range(-1, 9)),
    ],
)
def test_only_what_speaks_of_sim_carrier_or_radio_blames_the_sim(report: Report, blames: bool):
    answer = answer_of(report)
    assert answer is not None
    assert answer.blames_sim is blames


def test_an_sms_that_is_wrong_itself_does_not_block_its_sim():
    for code, blocked in ((NO_SERVICE, AlarmType.SMS_BLOCKED), (NO_SIM, AlarmType.SMS_BLOCKED), (ARGUMENTS, None)):
        answer = answer_of(failed("sms_log", error_code=code, segments=2))
        assert answer is not None
        assert answer.result == {"error_code": code, "segments_sent": 2}
        assert blocked_by(CommandKind.SEND_SMS, answer.error, answer.result) is blocked
    assert blocked_by(CommandKind.SEND_SMS, "send_failed", None) is AlarmType.SMS_BLOCKED
