"""Parts of an SMS, held against another implementation and against the borders by hand."""

import pytest
import smsutil
from hypothesis import given
from hypothesis import strategies as st

from signal_gateway.domain.sms_text import GSM_BASIC, GSM_EXTENSION, SmsSize, segments

ALPHABET = "".join(sorted(GSM_BASIC | GSM_EXTENSION))


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("", SmsSize("gsm7", 1, 0, 160)),
        ("a" * 160, SmsSize("gsm7", 1, 160, 0)),
        ("a" * 161, SmsSize("gsm7", 2, 161, 145)),
        ("a" * 306, SmsSize("gsm7", 2, 306, 0)),
        ("a" * 307, SmsSize("gsm7", 3, 307, 152)),
        ("€" * 80, SmsSize("gsm7", 1, 160, 0)),
        ("€" * 81, SmsSize("gsm7", 2, 162, 143)),  # 76 of them are 152: the 153rd unit stays empty
        ("a" * 152 + "€" + "b" * 20, SmsSize("gsm7", 2, 174, 131)),  # the escape and its code stay together
        ("a" * 152 + "€" + "b" * 152, SmsSize("gsm7", 3, 306, 152)),  # which costs a part: 306 units would fit two
        ("ş" * 70, SmsSize("ucs2", 1, 70, 0)),
        ("ş" * 71, SmsSize("ucs2", 2, 71, 63)),
        ("😀" * 35, SmsSize("ucs2", 1, 70, 0)),
        ("😀" * 36, SmsSize("ucs2", 2, 72, 61)),  # 33 pairs are 66: the pair is not torn apart
        ("ş" * 66 + "😀" + "ş" * 66, SmsSize("ucs2", 3, 134, 66)),
        ("a\x1bb", SmsSize("ucs2", 1, 3, 67)),  # the escape is no character of the alphabet
        ("`", SmsSize("ucs2", 1, 1, 69)),  # a backtick, which many lists have by mistake
        ("ç", SmsSize("ucs2", 1, 1, 69)),  # the alphabet has only the capital
        ("Ç\n\r^{}\\[~]|\f", SmsSize("gsm7", 1, 21, 139)),
        ("\ud800", SmsSize("ucs2", 1, 1, 69)),  # half a pair, as JSON can say it
    ],
)
def test_the_borders_of_parts(text: str, size: SmsSize):
    assert segments(text) == size


def test_the_alphabet_has_127_characters_and_10_in_the_extension():
    assert (len(GSM_BASIC), len(GSM_EXTENSION), GSM_BASIC & GSM_EXTENSION) == (127, 10, frozenset())


def seen_by_smsutil(text: str) -> tuple[str, int, int]:
    found = smsutil.split(text)
    wide = found.encoding != "gsm0338"
    return ("ucs2" if wide else "gsm7", len(found.parts), sum(part.bytes for part in found.parts) // (2 if wide else 1))


texts = st.one_of(
    st.text(st.sampled_from(ALPHABET), max_size=700),
    st.text(st.sampled_from("ab€|😀ş"), min_size=60, max_size=700),
    st.text(
        st.characters(exclude_categories=["Cs"], exclude_characters="\x1b"), max_size=300
    ),  # the other takes a bare escape for a letter
    st.builds(lambda a, b: "a" * a + "€" * b, st.integers(0, 400), st.integers(0, 200)),
)


@given(texts)
def test_another_implementation_counts_the_same(text: str):
    size = segments(text)
    assert not text or (size.encoding, size.segments, size.units) == seen_by_smsutil(text)  # it has no alphabet for nothing


@given(texts)
def test_a_part_is_never_overfull_and_one_less_would_not_do(text: str):
    size = segments(text)
    alone, part = (160, 153) if size.encoding == "gsm7" else (70, 67)
    assert 0 <= size.left <= (alone if size.segments == 1 else part)
    if size.segments == 1:
        assert size.units + size.left == alone
    else:
        assert size.units > alone
        assert size.units <= size.segments * part - size.left
        # A border leaves at most one unit unused.
        assert size.units + size.left >= size.segments * part - (size.segments - 1)
