"""The rules of each SIM: of its phone's settings and the gateway's (C-29: slot n is sim n+1), and the balance in an answer."""

import re
from decimal import Decimal, InvalidOperation
from zoneinfo import ZoneInfo

import msgspec

from signal_gateway.domain.command_answers import Answer
from signal_gateway.domain.sim_limits import SimRules
from signal_gateway.domain.ussd import BALANCE, read_balance
from signal_gateway.services.command_settings import CommandsSettings
from signal_gateway.services.device_directory import KnownDevice


class SimRulesOf:
    """Makes them."""

    def __init__(self, settings: CommandsSettings) -> None:
        self._settings = settings
        self._zone = ZoneInfo(settings.time_zone)
        self._balance = re.compile(settings.balance_pattern) if settings.balance_pattern else BALANCE

    def of(self, device: KnownDevice, slot: int) -> SimRules:
        """The rules of the SIM in this slot. A third SIM has the limits of the second: the seed names two."""
        phone, ours = device.settings, self._settings
        is_first = slot == 0
        return SimRules(
            zone=self._zone,
            reset_hour=phone.sms_limit_reset_hour,
            limits_enabled=phone.enable_sms_limits,
            daily_max=phone.sim1_daily_sms_limit if is_first else phone.sim2_daily_sms_limit,
            monthly_max=phone.sim1_monthly_sms_limit if is_first else phone.sim2_monthly_sms_limit,
            recipients_max=ours.recipients_per_month,
            guard_s=phone.sim1_guard_interval if is_first else phone.sim2_guard_interval,
            low_balance=_decimal(phone.low_balance_threshold),
            count=ours.count,
            park_after=ours.sim_park_after,
            park_s=ours.sim_park_s,
            park_max_s=ours.sim_park_max_s,
        )

    def read_balance(self, answer: Answer) -> Answer:
        """The answer, with the balance that its text tells."""
        response = (answer.result or {}).get("response")
        balance = read_balance(response, self._balance) if isinstance(response, str) else None
        if balance is None:
            return answer
        return msgspec.structs.replace(answer, balance=str(balance), result={**(answer.result or {}), "balance": str(balance)})


def _decimal(text: str) -> Decimal | None:
    try:
        number = Decimal(text)
    except InvalidOperation:
        return None
    return number if number.is_finite() else None  # NaN cannot be compared
