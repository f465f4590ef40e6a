"""Which USSD codes are dialled, and what is read out of the answers."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signal_gateway.domain.ussd import UssdRules, failure_words, is_menu, is_permanent, read_balance

CODES = st.text(st.sampled_from("*#+0123456789"), max_size=30)


@pytest.mark.parametrize("code", ["*123#", "*100*1#", "*#06#", "#123#", "*101*5321234567*50#", "*210#", "*1*21#", "*400#", "*#100#"])
def test_ordinary_codes_are_dialled(code: str):
    assert UssdRules().refusal(code) is None


@pytest.mark.parametrize(
    "service", ["21", "61", "62", "67", "002", "004", "33", "330", "331", "332", "333", "35", "351", "353", "30", "31", "43"]
)
def test_codes_that_change_calls_are_refused_in_every_form(service: str):
    """Register, activate, ask, deactivate and erase (3GPP TS 22.030), with a number behind and without."""
    for before in ("*", "**", "*#", "#", "##"):
        for behind in ("#", "*905321234567#", "*+905321234567*11*30#", "*1234#"):
            assert "calls" in (UssdRules().refusal(before + service + behind) or ""), before + service + behind


@pytest.mark.parametrize(
    "code", ["**04*1234*4321*4321#", "**042*1*2*2#", "**05*12345678*1*1#", "**052*1*2*2#", "**03*330*1*2*2#", "*76#", "*77#"]
)
def test_codes_that_change_pins_or_what_is_shown_are_refused(code: str):
    assert UssdRules().refusal(code) is not None


@pytest.mark.parametrize("code", ["*#*#7780#*#*", "*#*#7780#*#", "*2767*3855#"])
def test_codes_that_wipe_a_phone_are_refused(code: str):
    assert UssdRules().refusal(code) is not None


@pytest.mark.parametrize(
    "code", ["", "123", "123#", "*123", "+123#", "*12 3#", "*123#\n", "*١٢٣#", "*abc#", "*" + "1" * 181 + "#", "tel:*123#"]
)
def test_what_is_no_code_is_refused(code: str):
    assert "begins with" in (UssdRules().refusal(code) or "")


def test_only_what_is_allowed_is_dialled_where_codes_are_named():
    rules = UssdRules(["*123#", "*100*", "*21#"])

    assert [rules.refusal(code) is None for code in ("*123#", "*100*1#", "*21#")] == [True] * 3
    assert [rules.refusal(code) is None for code in ("*1234#", "*123*1#", "*100#", "*#06#", "*100*1")] == [False] * 5


@given(CODES)
def test_a_refusal_never_repeats_the_code(code: str):
    refusal = UssdRules().refusal(code)

    assert refusal is None or len(code) < 4 or code not in refusal


@pytest.mark.parametrize(
    "word",
    [
        "menu",
        "menü",
        "seçenek",
        "option",
        "seçiniz",
        "select",
        "giriniz",
        "enter",
        "geri",
        "back",
        "ç\u0131k\u0131ş",
        "exit",
        "iptal",
        "cancel",
    ],
)
def test_each_word_of_a_menu_is_known_in_every_case(word: str):
    """T-41. Turkish has capitals of its own for the i with a dot and the one without."""
    turkish = word.replace("i", "İ").replace("\u0131", "I").upper()
    for written in (word, word.upper(), word.capitalize(), turkish, turkish.lower(), f"0: {word}", f"({turkish})", f"Bakiye 5 TL\n{word}."):
        assert is_menu(written), written


@pytest.mark.parametrize("word", ["menu\u0308", "MENU\u0308", "sec\u0327enek", "SEC\u0327I\u0307NI\u0307Z", "menüye", "options", "iptali"])
def test_letters_in_two_pieces_and_endings_are_known(word: str):
    assert is_menu(word)


@pytest.mark.parametrize(
    ("text", "menu"),
    [
        ("1. Bakiye\n2. Paket\n3. Fatura", True),
        ("1.Bakiye 2.Paket", True),
        ("1) A\n2) B", True),
        ("1 - A\n3 - B", True),
        ("1: A\r\n2: B", True),
        ("1. 5 GB\n2. 10 GB", True),
        ("1. Bakiye", False),
        ("1. Bakiye\n1. Paket", False),
        ("Kalan 1.500 TL, 2.300 dk", False),
        ("1.25 TL 2.50 TL", False),
        ("1-3 gün, 2-4 gün", False),
        ("1:30 2:30", False),
        ("01. A 12. B", False),
        ("Bakiyeniz 12,50 TL", False),
        ("Background check, cashback, entertainment, cancelled", False),
        ("", False),
        ("x" * 2000 + " menu", False),
    ],
)
def test_a_menu_is_two_numbered_choices_or_a_word(text: str, menu: bool):
    assert is_menu(text) is menu


@pytest.mark.parametrize(
    ("text", "balance"),
    [
        ("Bakiyeniz: 12,50 TL", "12.50"),
        ("BAKİYENİZ 12.50 TL'dir", "12.50"),
        ("Your balance is $1,234.56.", "1234.56"),
        ("Kalan kredi 1.234,5", "1234.5"),
        ("Saldo 1 234,56 EUR", "1234.56"),
        ("Guthaben 1\u00a0234 EUR", "1234"),
        ("Solde: 1234.56", "1234.56"),
        ("Balance: 7", "7"),
        ("Bakiye 1.234.567", "1234567"),
        ("Bakiye: 0.125", "0.125"),
        ("Bakiye: -5,00 TL", "-5.00"),
        ("Bakiye - 5,00 TL", "5.00"),
        ("Balance 12\n345 is your code", "12"),
        ("Balance on 01.02.2024", None),
        ("Balance at 12:30", None),
        ("Kalan 500 MB", None),
        ("Kalan 15dk", None),
        ("Remaining 80%", None),
        ("Balance 1234567890123456", None),
        ("Bakiye\n12,50", None),
        ("Bakiye yok", None),
        ("12,50 TL", None),
        ("x" * 2000 + "Bakiye: 5", None),
        ("", None),
    ],
)
def test_a_balance_is_read_as_carriers_word_it(text: str, balance: str | None):
    assert read_balance(text) == (None if balance is None else Decimal(balance))


@given(st.decimals(0, 999_999, places=2), st.sampled_from(["Bakiyeniz {} TL", "Your balance: {} USD", "Saldo {}."]))
def test_every_amount_comes_back_with_point_comma_and_thousands_set_apart(amount: Decimal, sentence: str):
    continental = f"{amount:,.2f}".translate(str.maketrans(",.", ".,"))
    for written in (f"{amount:.2f}", f"{amount:.2f}".replace(".", ","), f"{amount:,.2f}", continental, f"{amount:,.2f}".replace(",", " ")):
        assert read_balance(sentence.format(written)) == amount, written


@given(st.text(max_size=200))
def test_any_text_is_read(text: str):
    is_menu(text)
    balance = read_balance("balance" + text)
    assert balance is None or balance.is_finite()


def test_failures_have_words_and_some_are_for_good():
    """T-39, C-26."""
    assert [failure_words(code) for code in (-1, 4, 5, 7, 99)] == [
        "failed or cancelled",
        "SIM card error",
        "timeout",
        "network busy",
        "unknown failure 99",
    ]
    assert [code for code in range(-1, 10) if is_permanent(code)] == [2, 3, 6, 8]
