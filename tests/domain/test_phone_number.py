"""Phone numbers: what is taken, what is one number, who may be written to."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signal_gateway.domain.phone_number import InvalidNumber, NumberRules, normalise, same_carrier, same_number


@pytest.mark.parametrize(
    ("text", "region", "number"),
    [
        ("+905551234567", None, "+905551234567"),  # as the source prints it
        (" +90 (555) 123-45-67 ", None, "+905551234567"),
        ("05551234567", "TR", "+905551234567"),
        ("5551234567", "TR", "+905551234567"),
        ("00905551234567", "TR", "+905551234567"),
        ("+9005551234567", None, "+905551234567"),  # the zero does not belong there
        ("0151 12345678", "DE", "+4915112345678"),
        ("(555) 123-4567", "US", "+15551234567"),
        ("+15551234567", "TR", "+15551234567"),
        ("40612345", "NO", "+4740612345"),
        ("+442079460000", None, "+442079460000"),
    ],
)
def test_a_number_becomes_e164(text: str, region: str | None, number: str):
    assert normalise(text, region) == number


@pytest.mark.parametrize(
    ("text", "region"),
    [
        *(("", None), ("+", None), ("12", None), ("12", "TR"), ("5551234567", None), ("123456789", None), ("+90555", None)),
        *(("+9991234567", None), ("+9055512345678901", None), ("+" + "9" * 5000, None), ("++905551234567", None), ("90+5551234567", "TR")),
        # The library would make numbers of all these.
        *(("1-800-FLOWERS", "US"), ("+1800FLOWERS", None), ("+905551234567;ext=3", None), ("+905551234567 ext. 3", None)),
        *(("tel:+905551234567", None), ("05551234567;phone-context=+1", "TR"), ("+905551234567,,12#", None)),
        *(("+905551234567\r\nBcc: x", None), ("+\u0669\u0660\u0665\u0665\u0665\u0661\u0662\u0663\u0664\u0665\u0666\u0667", None)),
        *(("\uff0b905551234567", None), ("*21*5551234567#", "TR")),
    ],
)
def test_what_is_no_number_is_refused(text: str, region: str | None):
    with pytest.raises(InvalidNumber):
        normalise(text, region)


def test_a_refusal_says_what_to_write():
    for text, words in (("5551234567", "with . and the country's code"), ("+90555", "too short or too long"), ("Anna", "digits")):
        with pytest.raises(InvalidNumber, match=words):
            normalise(text)


def test_short_codes_are_taken_where_they_are_allowed_and_no_number_of_the_region():
    assert [normalise(code, None) for code in ("123", "12345678", "1 23")] == ["123", "12345678", "123"]
    assert normalise("2345", "TR") == "2345"
    assert normalise("40612345", "NO") == "+4740612345"
    assert normalise("4002", "NU") == "+6834002"
    for region in (None, "TR"):
        with pytest.raises(InvalidNumber):
            normalise("2345", region, short_codes=False)


@given(st.text(max_size=60), st.sampled_from([None, "TR", "US", "NO"]), st.booleans())
def test_any_text_is_a_number_or_refused_and_a_number_stays_what_it_is(text: str, region: str | None, short_codes: bool):
    try:
        found = normalise(text, region, short_codes=short_codes)
    except InvalidNumber:
        return
    assert found.removeprefix("+").isdecimal()
    assert found.isascii()
    assert normalise(found, region, short_codes=short_codes) == found


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ("+905551234567", "+905551234567", True),
        ("+905551234567", "+90 555 123 45 67", True),
        ("+905551234567", "05551234567", True),
        ("+905551234567", "5551234567", True),
        ("+905551234567", "905551234567", True),
        ("+905551234567", "00905551234567", True),
        ("905551234567", "05551234567", True),
        ("+905551234567", "+905551234568", False),
        ("+905551234567", "05551234568", False),
        ("+905551234567", "34567", False),
        ("+905551234567", "+491555123456", False),
        ("2345", "2345", True),
        ("2345", "+90555232345", False),
        ("BANK", "BANK", False),  # a sender's name is no number
        ("Turkcell", "Vodafone", False),
        ("", "", False),
        ("+12345678901", "+2345678901", False),  # the United States and Nigeria
        ("+", "-", False),
    ],
)
def test_one_number_in_two_writings(a: str, b: str, same: bool):
    assert (same_number(a, b), same_number(b, a)) == (same, same)


@given(st.text("0123456789", max_size=15), st.text("0123456789", max_size=15))
def test_two_numbers_with_their_countries_are_one_only_when_they_are_equal(a: str, b: str):
    assert same_number(f"+{a}", f"+{b}") is (a == b != "")


@given(st.text(max_size=50), st.text(max_size=50))
def test_any_two_texts_can_be_compared_in_any_order(a: str, b: str):
    assert same_number(a, b) == same_number(b, a)


@pytest.mark.parametrize(
    ("allow", "deny", "number", "allowed"),
    [
        ((), (), "+905551234567", True),
        ((), ("+90900",), "+909001234567", False),
        ((), ("+90900",), "+905551234567", True),
        (("+90",), (), "+905551234567", True),
        (("+90",), (), "+15551234567", False),
        (("+90",), (), "2345", False),
        (("+90", "2"), (), "2345", True),
        (("+90",), ("+90900",), "+909001234567", False),
        (("+905551234567",), ("+",), "+905551234567", True),  # one number of a world that is denied
        (("+905551234567",), ("+",), "+905551234568", False),
        (("+90",), ("+90",), "+905551234567", False),
        ((), ("",), "2345", False),
    ],
)
def test_the_longest_beginning_decides_and_deny_wins(allow: tuple[str, ...], deny: tuple[str, ...], number: str, allowed: bool):
    refusal = NumberRules(allow, deny).refusal(number)
    assert (refusal is None) is allowed
    assert number not in (refusal or "")


@given(st.lists(st.text("0123", max_size=4)), st.lists(st.text("0123", max_size=4)), st.text("0123", min_size=7, max_size=9))
def test_rules_agree_with_the_sentence_that_describes_them(allow: list[str], deny: list[str], digits: str):
    allowed, denied = [f"+{each}" for each in allow], [f"+{each}" for each in deny]
    fits = [(len(each), each in denied) for each in {*allowed, *denied} if f"+{digits}".startswith(each)]
    refused = max(fits)[1] if fits else bool(allowed)
    assert (NumberRules(tuple(allowed), tuple(denied)).refusal(f"+{digits}") is not None) == refused


@pytest.mark.parametrize(
    ("number", "name", "same"),
    [
        ("+905321234567", "Turkcell", True),
        ("+905321234567", "TURKCELL TR", True),
        ("+905051234567", "Türk Telekom", True),
        ("+905421234567", "TR VODAFONE", True),
        ("+905421234567", "Turkcell", False),
        ("+905421234567", "", False),
        ("+15551234567", "AT&T", False),  # a country without a table
        ("+905421234567", "V", False),
        ("2345", "Turkcell", False),
        ("nonsense", "Turkcell", False),
    ],
)
def test_a_number_and_the_carrier_that_a_sim_names(number: str, name: str, same: bool):
    assert same_carrier(number, name) is same
