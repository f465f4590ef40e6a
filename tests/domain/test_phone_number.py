"""Numbers that may be sent to, as operators and phones write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signal_gateway.domain.phone_number import InvalidNumber, NumberRules, normalise, same_carrier, same_number

DIGITS = st.text(st.sampled_from("0123456789"), min_size=1, max_size=15)


@pytest.mark.parametrize(
    ("text", "region", "number"),
    [
        ("+905321234567", None, "+905321234567"),
        (" +90 (532) 123-45-67 ", None, "+905321234567"),
        ("0532 123 45 67", "TR", "+905321234567"),
        ("5321234567", "TR", "+905321234567"),
        ("00905321234567", "TR", "+905321234567"),
        ("0151/12345678", "DE", "+4915112345678"),
        ("(212) 555-0199", "US", "+12125550199"),
        ("+12125550199", "TR", "+12125550199"),
        ("2222", None, "2222"),
        ("2222", "TR", "2222"),
        ("112", "TR", "112"),
        ("4002", "NU", "+6834002"),  # a whole number of a small country
    ],
)
def test_a_number_becomes_e164_or_stays_a_short_code(text: str, region: str | None, number: str):
    assert normalise(text, region) == number


@pytest.mark.parametrize(
    ("text", "region"),
    [
        ("", None),
        ("+", None),
        ("12", None),
        ("5321234567", None),
        ("+9053212345678901", None),
        ("+999123456789", None),
        ("BANK", "TR"),
        ("+1800FLOWERS", None),
        ("+905321234567;ext=5", None),
        ("+905321234567 ext. 5", None),
        ("tel:+905321234567", None),
        ("05321234567;phone-context=+1", "TR"),
        ("+905321234567\n+905321234568", None),
        ("+905321234567,+905321234568", None),
        ("++905321234567", None),
        ("+٩٠٥٣٢١٢٣٤٥٦٧", None),
        ("\uff0b905321234567", None),
        ("*21*5321234567#", "TR"),
        ("+" + "9" * 100_000, None),
    ],
)
def test_what_is_no_number_is_refused(text: str, region: str | None):
    """Letters that stand for digits, extensions, second numbers and foreign digits included: a phone may read them in another way (H29)."""
    with pytest.raises(InvalidNumber):
        normalise(text, region)


def test_short_codes_can_be_switched_off():
    with pytest.raises(InvalidNumber):
        normalise("2222", "TR", short_codes=False)


@given(st.text(max_size=40), st.sampled_from([None, "TR", "DE", "US"]))
def test_what_comes_out_is_a_number_and_stays_itself(text: str, region: str | None):
    try:
        number = normalise(text, region)
    except InvalidNumber:
        return
    assert number.removeprefix("+").isascii()
    assert number.removeprefix("+").isdigit()
    assert normalise(number, region) == number


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("+905321234567", "+90 532 123 45 67", True),
        ("+905321234567", "05321234567", True),
        ("+905321234567", "5321234567", True),
        ("+905321234567", "00905321234567", True),
        ("905321234567", "05321234567", True),
        ("2222", "2222", True),
        ("2222", "+905321232222", False),
        ("123456", "+90532123456", False),
        ("+905321234567", "+905321234568", False),
        ("+4930123456789", "+30123456789", False),
        ("BANK", "BANK", False),
        ("", "", False),
    ],
)
def test_numbers_are_compared_as_phones_write_them(one: str, other: str, same: bool):
    assert same_number(one, other) is same
    assert same_number(other, one) is same


@given(DIGITS, DIGITS)
def test_two_numbers_with_country_are_the_same_only_when_equal(one: str, other: str):
    assert same_number("+" + one, "+" + other) is (one == other)


@pytest.mark.parametrize(
    ("number", "carrier", "same"),
    [
        ("+905321234567", "Turkcell", True),
        ("+905321234567", "TURKCELL TR", True),
        ("+905421234567", "Turkcell", False),
        ("+905321234567", "", False),
        ("2222", "Turkcell", False),
        ("nonsense", "Turkcell", False),
    ],
)
def test_a_carrier_is_known_by_the_range_of_the_number(number: str, carrier: str, same: bool):
    assert same_carrier(number, carrier) is same


@pytest.mark.parametrize(
    ("allow", "deny", "number", "allowed"),
    [
        ([], [], "+905321234567", True),
        (["+90"], [], "+905321234567", True),
        (["+90"], [], "+4915112345678", False),
        (["+90"], [], "2222", False),
        ([], ["+90900"], "+909001234567", False),
        ([], ["+90900"], "+905321234567", True),
        (["+90"], ["+90900"], "+909001234567", False),
        (["+90900123"], ["+90900"], "+909001234567", True),
        (["+90"], ["+90"], "+905321234567", False),
        ([""], ["+881"], "+905321234567", True),
        ([], [""], "+905321234567", False),
    ],
)
def test_the_longest_prefix_decides_and_of_two_as_long_the_refusal(allow: list[str], deny: list[str], number: str, allowed: bool):
    refusal = NumberRules(allow, deny).refusal(number)

    assert (refusal is None) is allowed
    assert number not in (refusal or "")
