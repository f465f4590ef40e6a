"""Section `[commands]`: what may be sent, how long each state may last, and what SIMs are spared."""

import re
from collections.abc import Sequence
from typing import Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from signal_gateway.domain.command import CommandKind
from signal_gateway.domain.command_rules import CommandPolicy

_PREFIX = re.compile(r"\+[1-9][0-9]{0,14}")
_ALLOWED_PREFIX = re.compile(r"\+[1-9][0-9]{0,14}|[0-9]{1,8}")


class CommandsSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Section `[commands]`: commands to devices (CONTRACT.md §5)."""

    ttl_s: float = 86_400.0
    """Seconds that a command waits to be dispatched before it expires, where its sender names no other time."""
    ttl_max_s: float = 2_592_000.0
    """The longest time that a sender may name."""
    dispatched_s: float = 120.0
    """Seconds that a device has to say what became of a command; then `unknown`, or another try for what may be repeated."""
    accepted_s: float = 600.0
    """The same after it has said that it has taken the command on."""
    delivery_s: float = 259_200.0
    """Seconds within which an asked-for delivery report must come; then `unknown`."""
    parts_settle_s: float = 120.0
    """Seconds after a delivery report of a long SMS that does not say of which part it is; if no further one comes, it was of the whole."""
    sms_retries: int = 5
    """Further tries of an SMS whose sending the phone reports as failed; then `dead` (seed 004: up to 5). 0 = none."""
    ussd_retries: int = 5
    """The same of USSD codes and replies. 0 = none."""
    rcs_retries: int = 5
    """The same of RCS messages. 0 = none."""
    other_retries: int = 5
    """The same of find_device and alarms, which are also tried again when no answer comes. 0 = none."""
    backoff_first_s: float = 5.0
    """Seconds before the second try; doubled before each further one."""
    backoff_max_s: float = 300.0
    """The longest wait between two tries."""
    backoff_jitter: float = 0.2
    """By which part of itself a wait is spread, up and down."""
    open_max: int = 1_000_000
    """Commands that are not yet in a final state; beyond it new ones are refused with 503."""
    fan_out_max: int = 1000
    """Commands that one call may come to where it asks for one for every phone of a group; beyond it that part of it is refused."""
    in_memory_max: int = 50_000
    """Queued commands, and devices that were sent some, that are kept in memory; the others wait in the database."""
    backlog_cpu: float = 0.7
    """Share of a processor core, above 0. While the process uses more, what has waited goes out by a hundred commands a second, so that
    other links are answered as ever; a new command to a phone that is free does not wait. 1 = everything at once."""
    sms_parts_max: int = 10
    """Parts of one SMS; longer texts are refused."""
    region: str = ""
    """Country of numbers without +, as two letters (TR). Empty: numbers must be in E.164."""
    short_codes: bool = True
    """Whether an SMS may go to a short code of 3 to 8 digits."""
    number_prefixes_allowed: tuple[str, ...] = ()
    """Prefixes in E.164 (+90), and beginnings of short codes (4060), that may be sent to. Empty: all that are not denied."""
    number_prefixes_denied: tuple[str, ...] = ()
    """Prefixes in E.164 (+90900) that are never sent to, premium numbers for example."""
    ussd_allowed: tuple[str, ...] = ()
    """USSD codes that may be dialled, whole (*123#) or as a beginning (*123*). Empty: all but those that divert or bar calls."""
    balance_pattern: str = ""
    """Regular expression with a group `balance` that reads a SIM's balance out of a USSD answer. Empty: the built-in one."""
    time_zone: str = "UTC"
    """Zone in which days and months of SMS limits begin (Europe/Istanbul)."""
    count: Literal["segments", "messages"] = "segments"
    """What the limits of a SIM count."""
    recipients_per_month: int = 0
    """Distinct numbers that one SIM may send to in a month, where limits are enabled. 0 = no limit."""
    sim_park_after: int = 3
    """Failures of a SIM, its carrier or the radio in a row after which it rests; those of a message itself, and of RCS, are none."""
    sim_park_s: float = 300.0
    """Seconds that it rests at first; doubled with each further failure."""
    sim_park_max_s: float = 3600.0
    """The longest rest."""

    def __post_init__(self) -> None:
        above_zero = (
            "ttl_s",
            "ttl_max_s",
            "dispatched_s",
            "accepted_s",
            "delivery_s",
            "parts_settle_s",
            "backoff_first_s",
            "backoff_max_s",
        )
        above_zero += ("open_max", "fan_out_max", "in_memory_max", "sms_parts_max", "sim_park_after", "sim_park_s", "sim_park_max_s")
        if any(getattr(self, name) <= 0 for name in above_zero):
            raise ValueError(f"{', '.join(above_zero)} must be above 0")
        retries = (self.sms_retries, self.ussd_retries, self.rcs_retries, self.other_retries)
        if min(*retries, self.recipients_per_month) < 0 or not 0 <= self.backoff_jitter < 1:
            raise ValueError("retries and recipients_per_month must not be below 0, backoff_jitter must be 0 to below 1")
        if not 0 < self.backlog_cpu <= 1:
            raise ValueError("backlog_cpu must be above 0 and not above 1")
        try:
            ZoneInfo(self.time_zone)
        except (ZoneInfoNotFoundError, ValueError):
            raise ValueError(f"time_zone: {self.time_zone!r} is no time zone") from None

        if self.ttl_s > self.ttl_max_s:
            raise ValueError("ttl_s must not be above ttl_max_s")
        _check_numbers(self.region, self.number_prefixes_allowed, self.number_prefixes_denied)
        if self.balance_pattern:
            _check_pattern(self.balance_pattern)

    def policy(self) -> CommandPolicy:
        """The rules of a command's life that these settings make."""
        other = dict.fromkeys((CommandKind.FIND_DEVICE, CommandKind.ALARM_START, CommandKind.ALARM_STOP), self.other_retries)
        return CommandPolicy(
            retries_max={
                CommandKind.SEND_SMS: self.sms_retries,
                CommandKind.SEND_USSD: self.ussd_retries,
                CommandKind.USSD_REPLY: self.ussd_retries,
                CommandKind.SEND_RCS: self.rcs_retries,
                **other,
            },
            backoff_first_s=self.backoff_first_s,
            backoff_max_s=self.backoff_max_s,
            jitter=self.backoff_jitter,
            dispatched_s=self.dispatched_s,
            accepted_s=self.accepted_s,
            delivery_s=self.delivery_s,
            parts_settle_s=self.parts_settle_s,
        )


def _check_numbers(region: str, allowed: Sequence[str], denied: Sequence[str]) -> None:
    """What fits no number would deny nothing, without a word (H29)."""
    for setting, prefixes, pattern, form in (
        ("number_prefixes_allowed", allowed, _ALLOWED_PREFIX, "+ and digits, or a short code's first digits"),
        ("number_prefixes_denied", denied, _PREFIX, "+ and digits, as numbers in E.164 begin"),
    ):
        for prefix in prefixes:
            if pattern.fullmatch(prefix) is None:
                raise ValueError(f"{setting}: {prefix!r} is not {form}")
    if region:
        from signal_gateway.domain.phone_number import is_region  # it takes long to load, and most name no region

        if not is_region(region):
            raise ValueError(f"region: {region!r} is no country of two capital letters (TR)")


def _check_pattern(text: str) -> None:
    try:
        pattern = re.compile(text)
    except re.error as error:
        raise ValueError(f"balance_pattern is no regular expression: {error}") from None
    if "balance" not in pattern.groupindex:
        raise ValueError("balance_pattern needs a group of the name balance: (?P<balance>...)")
