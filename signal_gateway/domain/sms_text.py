"""How an SMS is encoded and into how many parts it is cut (GSM 03.38, 3GPP TS 23.038 and 23.040)."""

from typing import Literal, NamedTuple

GSM_BASIC = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
"""The default alphabet: one septet each."""
GSM_EXTENSION = frozenset("\f^{}\\[~]|€")
"""An escape and one more septet each; the two are never in different parts."""
GSM_SINGLE, GSM_PART = 160, 153
UCS2_SINGLE, UCS2_PART = 70, 67


class SmsSize(NamedTuple):
    """What a text comes to."""

    encoding: Literal["gsm7", "ucs2"]
    segments: int
    """Parts that are sent, each paid for; 1 for an empty text."""
    units: int
    """Septets, or 16-bit units."""
    left: int
    """Units that still fit into the last part."""


def segments(text: str) -> SmsSize:
    """The size of a text. A character that the default alphabet has not turns the whole text into UCS-2."""
    if len(text) <= GSM_SINGLE and GSM_BASIC.issuperset(text):  # nearly all that is sent
        return SmsSize("gsm7", 1, len(text), GSM_SINGLE - len(text))
    sizes = _gsm_sizes(text)
    if sizes is not None:
        return _cut("gsm7", sizes, GSM_SINGLE, GSM_PART)
    return _cut("ucs2", [2 if ord(character) > 0xFFFF else 1 for character in text], UCS2_SINGLE, UCS2_PART)


def _gsm_sizes(text: str) -> list[int] | None:
    sizes: list[int] = []
    for character in text:
        if character in GSM_BASIC:
            sizes.append(1)
        elif character in GSM_EXTENSION:
            sizes.append(2)
        else:
            return None
    return sizes


def _cut(encoding: Literal["gsm7", "ucs2"], sizes: list[int], single: int, part: int) -> SmsSize:
    units = sum(sizes)
    if units <= single:
        return SmsSize(encoding, 1, units, single - units)
    count, used = 1, 0
    for size in sizes:  # what takes two units is not split over two parts: the part before it is sent with one unit unused
        if used + size > part:
            count, used = count + 1, 0
        used += size
    return SmsSize(encoding, count, units, part - used)
