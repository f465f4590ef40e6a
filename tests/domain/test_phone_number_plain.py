"""Numbers that are in E.164 already are seen to be so without the library, exactly where the library would leave them as they are."""

import phonenumbers
import pytest
from hypothesis import given
from hypothesis import strategies as st

from signal_gateway.domain import phone_number
from signal_gateway.domain.phone_number import InvalidNumber, normalise

CODES = sorted(phonenumbers.COUNTRY_CODE_TO_REGION_CODE)


def by_library(text: str) -> str | None:
    """What the library alone makes of it."""
    try:
        number = phonenumbers.parse(text, None)
    except phonenumbers.NumberParseException:
        return None
    if not phonenumbers.is_possible_number(number):
        return None
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


@given(st.sampled_from(CODES), st.text("0123456789", min_size=4, max_size=13))
def test_what_is_taken_as_it_is_the_library_takes_as_it_is(code: int, national: str):
    text = f"+{code}{national}"
    plain = phone_number._plain(text)
    assert plain is None or plain == by_library(text)


@given(st.sampled_from(CODES), st.text("0123456789", min_size=4, max_size=13))
def test_every_number_comes_out_as_the_library_has_it(code: int, national: str):
    text, expected = f"+{code}{national}", by_library(f"+{code}{national}")
    if expected is None:
        with pytest.raises(InvalidNumber):
            normalise(text)
    else:
        assert normalise(text) == expected


@pytest.mark.parametrize("text", ["+905551234567", "+447400123456", "+12025550123", "+4915112345678", "+33612345678", "+79161234567"])
def test_ordinary_numbers_need_no_library(text: str):
    assert phone_number._plain(text) == text
