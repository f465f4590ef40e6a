"""What a text comes to as an SMS, by tables, by laws, and against another implementation of the same standard."""

import pytest
import smsutil
from hypothesis import given
from hypothesis import strategies as st

from signal_gateway.domain.sms_text import GSM_BASIC, GSM_EXTENSION, SmsSize, segments

PLAIN = st.text(st.sampled_from(sorted(GSM_BASIC | GSM_EXTENSION)), max_size=700)
ANY = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\x1b"), max_size=400)
"""No lone surrogates, which are no text, and no escape, which the other implementation takes for a character."""
NEAR_A_CUT = st.builds(
    lambda filler, count, tail: filler * count + tail,
    st.sampled_from(["a", "€", "ş", "🙂"]),
    st.sampled_from([34, 66, 67, 69, 70, 76, 79, 133, 134, 152, 153, 159, 160, 305, 306]),
    st.text(st.sampled_from("a€ş🙂"), max_size=4),
)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("", ("gsm7", 1, 0, 160)),
        ("a" * 160, ("gsm7", 1, 160, 0)),
        ("a" * 161, ("gsm7", 2, 161, 145)),
        ("a" * 306, ("gsm7", 2, 306, 0)),
        ("a" * 307, ("gsm7", 3, 307, 152)),
        ("€" * 80, ("gsm7", 1, 160, 0)),
        ("€" * 81, ("gsm7", 2, 162, 143)),  # 76 of them fill 152 of 153: the escape and its septet stay together
        ("a" * 152 + "€" * 5, ("gsm7", 2, 162, 143)),
        ("ş", ("ucs2", 1, 1, 69)),
        ("ş" * 70, ("ucs2", 1, 70, 0)),
        ("ş" * 71, ("ucs2", 2, 71, 63)),
        ("🙂" * 35, ("ucs2", 1, 70, 0)),
        ("🙂" * 36, ("ucs2", 2, 72, 61)),  # 33 of them fill 66 of 67: no pair is cut
    ],
)
def test_a_text_is_cut_as_the_standard_says(text: str, size: tuple[str, int, int, int]):
    assert segments(text) == size


@pytest.mark.parametrize("text", ["İ", "\u0131", "Ğğ", "Şş", "ç", "`", "“quoted”", "\u2013", "\t", "\u00a0"])
def test_these_are_not_in_the_default_alphabet(text: str):
    """Letters and signs that look as if they were, and double what a text costs."""
    assert segments(text).encoding == "ucs2"


def test_the_alphabet_has_as_many_characters_as_the_standard():
    """128 places, less the escape; the extension's form feed is among its ten."""
    assert (len(GSM_BASIC), len(GSM_EXTENSION), GSM_BASIC & GSM_EXTENSION) == (127, 10, frozenset())


@given(st.one_of(PLAIN, ANY, NEAR_A_CUT))
def test_another_implementation_comes_to_the_same(text: str):
    split = smsutil.split(text)

    size = segments(text)

    assert not text or size.encoding == ("gsm7" if split.encoding == "gsm0338" else "ucs2")
    assert size.segments == max(1, len(split.parts))


@given(st.one_of(PLAIN, ANY, NEAR_A_CUT))
def test_units_and_what_is_left_agree_with_the_parts(text: str):
    """All parts but the last are full, or one unit short of it where a character of two did not fit."""
    encoding, count, units, left = segments(text)
    single, part = (160, 153) if encoding == "gsm7" else (70, 67)
    room = single if count == 1 else count * part

    assert 0 <= left < (single + 1 if count == 1 else part)
    assert 0 <= room - left - units <= count - 1


@given(PLAIN, PLAIN)
def test_more_text_is_never_fewer_parts(one: str, other: str):
    whole: SmsSize = segments(one + other)

    assert whole.segments >= max(segments(one).segments, segments(other).segments)
    assert whole.units == segments(one).units + segments(other).units
