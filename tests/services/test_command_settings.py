"""Section [commands] says what is wrong with it before anything is started."""

from typing import Any

import pytest

from signal_gateway.domain.command import CommandKind
from signal_gateway.services.command_settings import CommandsSettings


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"balance_pattern": "("}, "no regular expression"),
        ({"balance_pattern": r"\d+"}, "a group of the name balance"),
        ({"time_zone": "Mars/Olympus"}, "no time zone"),
        ({"ttl_s": 0}, "must be above 0"),
        ({"sms_retries": -1}, "must not be below 0"),
        ({"backoff_jitter": 1.0}, "backoff_jitter"),
        ({"backlog_cpu": 0.0}, "backlog_cpu"),
        ({"backlog_cpu": 1.5}, "backlog_cpu"),
        ({"ttl_s": 61.0, "ttl_max_s": 60.0}, "ttl_s must not be above ttl_max_s"),
        *(
            ({"number_prefixes_denied": (text,)}, "number_prefixes_denied")
            for text in ("90900", "0900", "+44 909", "0044871", "abc", "+", "")
        ),
        *(({"number_prefixes_allowed": ("+90", text)}, "number_prefixes_allowed") for text in ("+44 909", "+0", "abc", "")),
        *(({"region": text}, "no country") for text in ("tr", "XX", "TUR")),
    ],
)
def test_what_cannot_be_is_told_in_a_sentence(wrong: dict[str, Any], words: str):
    with pytest.raises(ValueError, match=words):
        CommandsSettings(**wrong)


def test_prefixes_and_a_region_that_fit_numbers_are_taken():
    settings = CommandsSettings(region="TR", number_prefixes_allowed=("+90", "4060"), number_prefixes_denied=("+90900", "+1"))
    assert settings.region == "TR"


def test_each_kind_has_its_own_retries():
    policy = CommandsSettings(sms_retries=1, ussd_retries=2, rcs_retries=3, other_retries=4).policy()
    kinds = (CommandKind.SEND_SMS, CommandKind.USSD_REPLY, CommandKind.SEND_RCS, CommandKind.ALARM_STOP)
    assert [policy.retries_of(kind) for kind in kinds] == [1, 2, 3, 4]
