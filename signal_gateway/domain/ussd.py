"""USSD: which codes may be dialled, what answers are menus, what failures mean, and the balance in an answer (T-39 to T-42, H29)."""

import re
import unicodedata
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation

CODE_CHARS_MAX = 182
"""Characters of a USSD string (3GPP TS 23.038)."""

FAILURES = {
    -1: "failed or cancelled",
    1: "network error",
    2: "invalid code",
    3: "service not available",
    4: "SIM card error",
    5: "timeout",
    6: "user cancelled",
    7: "network busy",
    8: "invalid string",
}
"""What a phone's failure codes mean (T-39)."""
PERMANENT = frozenset({2, 3, 6, 8})
"""Of these another try cannot help: a code that is wrong or not served, and somebody who ended it."""

_CODE = re.compile(r"[*#+0-9]{1,182}")
_CALL_CONTROL = re.compile(
    r"(?:\*|#|\*#|##|\*\*)(?:21|61|62|67|002|004|33|330|331|332|333|351|353|35|03|04|042|05|052|30|31|76|77|43)[*#].*"
)
"""Diverting and barring calls, changing PINs and what is shown of the caller (3GPP TS 22.030)."""
_SECRET = re.compile(r"\*#\*#.*|\*2767\*.*")
"""Codes of a phone itself, which open its menus or wipe it. No network knows them."""

_MENU_WORDS = re.compile(
    r"\b(?:menu|menü|seçenek|seçiniz|giriniz|ç\u0131k\u0131ş|iptal|(?:options?|select|enter|geri|back|exit|cancel)\b)", re.IGNORECASE
)
"""Words of T-41. Turkish ones take endings; the others are whole, for a background or something that was cancelled is no menu."""
_NUMBERED = re.compile(r"\s([1-3])\s?[.):-](?![0-9])")
"""A choice; a digit right behind the sign makes it an amount, a time or a date."""

BALANCE = re.compile(
    r"(?:bakiye|balance|kredi|credit|kalan|remaining|guthaben|saldo|solde)[^0-9\n-]{0,40}(?:-[\s:>]{1,4}[^0-9\n-]{0,20})?"
    r"(?P<balance>(?:-[$€£₺]?)?[0-9]{1,12}(?:[.,' \u00a0\u202f][0-9]{3}(?![0-9])){0,4}(?:[.,][0-9]{1,4})?)(?![0-9]|[.,'/:][0-9]"
    r"|\s?(?:[KMG]B|dk|dakika|min|sms|adet|gün|days?|%))",
    re.IGNORECASE,
)
"""A balance as carriers word it; another pattern may be set, with a group of the same name.

A word for it, at most 40 characters without a digit, an amount. What looks like a date, a time, a volume, minutes or messages is none: a
balance that is too small keeps a SIM from sending.
"""
ANSWER_CHARS_READ = 2000
"""Of an answer, so much is looked through."""


def is_menu(text: str) -> bool:
    """Whether an answer waits for a choice: at least two numbered lines, or one of the words that menus use (T-41)."""
    read = "\n" + unicodedata.normalize("NFC", text[:ANSWER_CHARS_READ]).replace("\u0307", "")  # the dot that lower case leaves of İ
    return len(set(_NUMBERED.findall(read))) >= 2 or _MENU_WORDS.search(read) is not None


def failure_words(code: int) -> str:
    """What a failure code means."""
    return FAILURES.get(code, f"unknown failure {code}")


def is_permanent(code: int) -> bool:
    """Whether another try cannot help."""
    return code in PERMANENT


class UssdRules:
    """Codes that may be dialled: whole (`*123#`), or as a beginning (`*123*`). None given: all but those that change how calls go."""

    def __init__(self, allow: Sequence[str] = ()) -> None:
        self._allow = tuple(allow)

    def refusal(self, code: str) -> str | None:
        """Why this code may not be dialled, in a sentence; None when it may."""
        if _CODE.fullmatch(code) is None or not code.endswith("#") or code[0] not in "*#" or not code.strip("*#+"):
            return f"a USSD code begins with * or #, ends with #, and has at most {CODE_CHARS_MAX} of 0-9 * # +, a digit among them"
        if self._allow:
            return None if self._is_allowed(code) else "this USSD code is not among those allowed"
        return self.reply_refusal(code)

    def reply_refusal(self, reply: str) -> str | None:
        """Why this is no answer to a menu. Nearly all is: but once the dialogue is over, a phone may dial what looks like a code."""
        if self._is_allowed(reply):
            return None
        if _SECRET.fullmatch(reply) is not None:
            return "this code is one of the phone itself, and is not dialled"
        if _CALL_CONTROL.fullmatch(reply) is not None:
            return "this code changes how calls are diverted, barred or shown, and is not dialled"
        return None

    def _is_allowed(self, code: str) -> bool:
        return any(code == allowed or (not allowed.endswith("#") and code.startswith(allowed)) for allowed in self._allow)


def read_balance(text: str, pattern: re.Pattern[str] = BALANCE) -> Decimal | None:
    """The balance that an answer tells; None when it tells none. Decimal comma or point, thousands set apart by the other or a space."""
    for found in pattern.finditer(text[:ANSWER_CHARS_READ]):
        if (amount := _amount(found["balance"] or "")) is not None:
            return amount
    return None


def _amount(text: str) -> Decimal | None:
    """What stands behind the last mark are cents, unless there are three digits of it, or marks like it before: these are thousands.

    Three digits after a single zero are cents again.
    """
    marked = "".join(character for character in text if character in "0123456789.,")
    last = max(marked.rfind("."), marked.rfind(","))
    whole, cents = (marked[:last], marked[last + 1 :]) if last >= 0 else (marked, "")
    if last >= 0 and (marked.count(marked[last]) > 1 or (len(cents) == 3 and whole.isdecimal() and whole != "0")):
        whole, cents = whole + cents, ""
    digits = whole.replace(".", "").replace(",", "")
    try:
        amount = Decimal(f"{digits}.{cents}" if cents else digits)
    except InvalidOperation:
        return None
    return -amount if text.lstrip().startswith("-") else amount
