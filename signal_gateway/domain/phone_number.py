"""Phone numbers: made into E.164, compared, and allowed or refused by prefix (H29)."""

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import phonenumbers
from phonenumbers import carrier

SHORT_CODE = re.compile(r"[0-9]{3,8}")
_E164 = re.compile(r"\+[1-9][0-9]{6,14}")
_SEPARATORS = str.maketrans("", "", " -().\u00a0/")
_DIALLED = re.compile(r"\+?[0-9]{1,40}")
"""The library reads more: letters for digits, extensions, digits of other scripts, a number amid other text. A phone may read these in
another way, and then somebody else is written to than was checked (H29)."""
_NATIONAL_DIGITS = 7
"""By so many last digits two numbers are compared of which one lacks its country."""


class InvalidNumber(ValueError):
    """A text that is no number that may be sent to. The sentence says why."""


def normalise(text: str, region: str | None = None, *, short_codes: bool = True) -> str:
    """The number in E.164, or a short code of 3 to 8 digits as it is. `region` (two letters) is the country of numbers without +.

    Raises InvalidNumber.
    """
    if (plain := _plain(text)) is not None:
        return plain
    bare = text.strip().translate(_SEPARATORS)
    if not _DIALLED.fullmatch(bare):
        raise InvalidNumber("a phone number has digits, + before them, and - ( ) . / or spaces between, only")
    if short_codes and SHORT_CODE.fullmatch(bare) and not _is_national(bare, region):
        return bare
    try:
        number = phonenumbers.parse(bare, region)
    except phonenumbers.NumberParseException:
        hint = "" if region else ": write it in E.164, with + and the country's code"
        raise InvalidNumber(f"this is no phone number{hint}") from None
    if not phonenumbers.is_possible_number(number):
        raise InvalidNumber("this phone number is too short or too long for its country")
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


def is_region(text: str) -> bool:
    """Whether this is a country of which numbers are known, in two capital letters."""
    return text in phonenumbers.SUPPORTED_REGIONS


def same_number(one: str, other: str) -> bool:
    """Whether two texts mean the same number, as phones write them: with country or without, with separators or without."""
    left, right = _digits(one), _digits(other)
    if left == right:
        return bool(left)
    if one.strip().startswith("+") and other.strip().startswith("+"):  # two countries, one of whose codes may end like the other's
        return False
    shorter, longer = sorted((left.lstrip("0"), right.lstrip("0")), key=len)
    return len(shorter) >= _NATIONAL_DIGITS and longer.endswith(shorter)


def same_carrier(number: str, carrier_name: str) -> bool:
    """Whether the number was first given out by this carrier. Numbers that were ported look like their first carrier's."""
    of_number, of_sim = _carrier_of(number), _letters(carrier_name)
    return len(of_number) > 1 and len(of_sim) > 1 and (of_number in of_sim or of_sim in of_number)


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


class _Country(NamedTuple):
    """What must be known of a country to see that a number of it is written in E.164 already."""

    code_chars: int
    lengths: frozenset[int]
    """Digits that its numbers may have."""
    dialled_before: re.Pattern[str] | None
    """What its people dial before a number at home: where a number seems to begin so, the library must look."""


def _plain(text: str) -> str | None:
    """The number, if it is in E.164 already, as nearly all are: a tenth of the work of reading it with the library. Else None."""
    if _E164.fullmatch(text) is None or (country := _country_of(text[1:4])) is None:
        return None
    national = text[1 + country.code_chars :]
    if len(national) not in country.lengths or (country.dialled_before and country.dialled_before.match(national)):
        return None
    return text


@lru_cache(maxsize=1000)
def _country_of(digits: str) -> _Country | None:
    """The country whose code a number begins with; `digits` are its first three."""
    for code_chars in (1, 2, 3):
        code = int(digits[:code_chars])
        if code not in phonenumbers.COUNTRY_CODE_TO_REGION_CODE:
            continue
        region = phonenumbers.region_code_for_country_code(code)
        data = phonenumbers.PhoneMetadata.metadata_for_region_or_calling_code(code, region)
        if data is None or data.general_desc is None:
            return None
        before = data.national_prefix_for_parsing
        return _Country(code_chars, frozenset(data.general_desc.possible_length), re.compile(before) if before else None)
    return None


@lru_cache(maxsize=10_000)
def _carrier_of(number: str) -> str:
    try:
        return _letters(carrier.name_for_number(phonenumbers.parse(number), "en"))
    except phonenumbers.NumberParseException:
        return ""


def _letters(name: str) -> str:
    """A name without what writings differ in: case, marks, spaces, points. `Türk Telekom` is `Turk Telekom`, `T-Mobile` `TMobile`."""
    return "".join(character for character in unicodedata.normalize("NFKD", name.casefold()) if character.isalnum())


def _digits(text: str) -> str:
    digits = "".join(character for character in text if character.isascii() and character.isdigit())
    return digits.removeprefix("00") if not text.strip().startswith("+") else digits
