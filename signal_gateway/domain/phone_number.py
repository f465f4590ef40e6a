"""Phone numbers: made into E.164, compared, and allowed or refused by prefix (H29)."""

import re
from collections.abc import Sequence
from functools import lru_cache

import phonenumbers
from phonenumbers import carrier

SHORT_CODE = re.compile(r"[0-9]{3,8}")
_NUMBER = re.compile(r"\+?[0-9]{1,20}")
"""What we read a number from. The library reads more (letters on keys, extensions, URIs, digits of every script), and a phone may read
that in another way than it does: then the number that is checked is not the one that is dialled (H29)."""
_SEPARATORS = str.maketrans("", "", " -().\u00a0/")
_NATIONAL_DIGITS = 7
"""By so many last digits two numbers are compared of which one lacks its country."""


class InvalidNumber(ValueError):
    """A text that is no number that may be sent to. The sentence says why."""


def normalise(text: str, region: str | None = None, *, short_codes: bool = True) -> str:
    """The number in E.164, or a short code of 3 to 8 digits as it is. `region` (two letters) is the country of numbers without +.

    Raises InvalidNumber.
    """
    bare = text.strip().translate(_SEPARATORS)
    if short_codes and SHORT_CODE.fullmatch(bare) and not _is_national(bare, region):
        return bare
    try:
        number = phonenumbers.parse(bare, region) if _NUMBER.fullmatch(bare) else None
    except phonenumbers.NumberParseException:
        number = None
    if number is None:
        hint = "" if region else ": write it in E.164, with + and the country's code"
        raise InvalidNumber(f"this is no phone number{hint}")
    if not phonenumbers.is_possible_number(number):
        raise InvalidNumber("this phone number is too short or too long for its country")
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


def same_number(one: str, other: str) -> bool:
    """Whether two texts mean the same number, as phones write them: with country or without, with separators or without."""
    left, right = _digits(one), _digits(other)
    if left == right or (one.lstrip().startswith("+") and other.lstrip().startswith("+")):
        return bool(left) and left == right  # both name their country: nothing is left open
    shorter, longer = sorted((left.lstrip("0"), right.lstrip("0")), key=len)
    return len(shorter) >= _NATIONAL_DIGITS and longer.endswith(shorter)


def same_carrier(number: str, carrier_name: str) -> bool:
    """Whether the number was first given out by this carrier. Numbers that were ported look like their first carrier's."""
    of_number, of_sim = _carrier_of(number).casefold(), carrier_name.casefold()
    return bool(of_number and of_sim) and (of_number in of_sim or of_sim in of_number)


class NumberRules:
    """Prefixes in E.164. The longest one that fits a number decides; of two as long, the refusal does. No `allow`: all may."""

    def __init__(self, allow: Sequence[str] = (), deny: Sequence[str] = ()) -> None:
        self._allow = tuple(allow)
        self._deny = tuple(deny)

    def refusal(self, number: str) -> str | None:
        """Why this number may not be sent to, in a sentence; None when it may."""
        denied = max((len(prefix) for prefix in self._deny if number.startswith(prefix)), default=-1)
        allowed = max((len(prefix) for prefix in self._allow if number.startswith(prefix)), default=-1)
        if denied >= 0 and denied >= allowed:
            return f"numbers that begin with {number[:denied]} may not be sent to"
        if self._allow and allowed < 0:
            return "numbers with this prefix may not be sent to"
        return None


def _is_national(digits: str, region: str | None) -> bool:
    """Whether a few digits are a whole number of the country, in small countries."""
    if region is None:
        return False
    try:
        return phonenumbers.is_valid_number(phonenumbers.parse(digits, region))
    except phonenumbers.NumberParseException:
        return False


@lru_cache(maxsize=10_000)
def _carrier_of(number: str) -> str:
    try:
        return carrier.name_for_number(phonenumbers.parse(number), "en")
    except phonenumbers.NumberParseException:
        return ""


def _digits(text: str) -> str:
    digits = "".join(character for character in text if character.isascii() and character.isdigit())
    return digits.removeprefix("00") if not text.strip().startswith("+") else digits
