"""USSD codes, answers and failures."""

import re
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signal_gateway.domain.ussd import FAILURES, UssdRules, failure_words, is_menu, is_permanent, read_balance


def test_each_failure_has_its_words_and_four_of_them_are_for_good():
    assert sorted(FAILURES) == [-1, 1, 2, 3, 4, 5, 6, 7, 8]
    assert (failure_words(7), failure_words(99)) == ("network busy", "unknown failure 99")
    assert [code for code in (*FAILURES, 99) if is_permanent(code)] == [2, 3, 6, 8]


@pytest.mark.parametrize(
    "code",
    [
        *("", "1", "100#", "*100", "100", "*100 #", "*100#\n", "*\u0661\u0660\u0660#", "*100#;*21*1#", "*100#,*21*1#", "*1a#", "tel:*100#"),
        "*" + "1" * 181 + "#",
        *("#", "*#", "##", "**", "*+#", "#*#*#"),
    ],
)
def test_what_is_no_code_is_refused(code: str):
    assert "a USSD code begins with" in str(UssdRules().refusal(code))
    assert UssdRules(["*"]).refusal(code) is not None


@pytest.mark.parametrize(
    "code",
    [
        *(
            "*21*+905551234567#",
            "**21*+905551234567*11#",
            "*21#",
            "#21#",
            "##21#",
            "*#21#",
            "*61*5#",
            "*62*5#",
            "**67*5#",
            "*002*5#",
            "*004*5#",
        ),
        *("*004*5#", "##002#", "##004#", "##61#", "*33*0000#", "#33*0000#", "*#33#", "*331*0000#", "*35*0000#", "**03*330*0000*1111*1111#"),
        *("**04*0000*1111*1111#", "**042*0000*1111*1111#", "**05*1*2*2#", "*43#", "#31#", "*#*#7780#*#*#", "*#*#4636#*#*#", "*2767*3855#"),
    ],
)
def test_what_redirects_or_bars_calls_or_wipes_a_phone_is_refused_unless_it_is_allowed_by_name(code: str):
    assert "not dialled" in str(UssdRules().refusal(code))
    assert "not among those allowed" in str(UssdRules(["*100#"]).refusal(code))
    assert UssdRules([code]).refusal(code) is None
    assert UssdRules([code]).reply_refusal(code) is None
    assert UssdRules([code[:-1]]).reply_refusal(code) is None  # as a beginning, as where it is dialled
    assert "not dialled" in str(UssdRules().reply_refusal(code))


@pytest.mark.parametrize(
    "code",
    [
        "*100#",
        "*123#",
        "*#06#",
        "*100*1#",
        "*101*+905551234567*10#",
        "*210#",
        "*1*21#",
        "*2121#",
        "*0021*5#",
        "#100#",
        "*" + "1" * 180 + "#",
    ],
)
def test_plain_codes_may_be_dialled(code: str):
    assert UssdRules().refusal(code) is None


@pytest.mark.parametrize(
    ("allow", "code", "allowed"),
    [
        (["*123#"], "*123#", True),
        (["*123#"], "*123*1#", False),
        (["*123*"], "*123*1*2#", True),
        (["*123*"], "*123#", False),
        (["*123*"], "*1234#", False),
        (["*123*", "*123#"], "*123#", True),
    ],
)
def test_codes_are_allowed_whole_or_by_their_beginning(allow: list[str], code: str, allowed: bool):
    assert (UssdRules(allow).refusal(code) is None) is allowed


@given(
    st.sampled_from(["*", "**", "*#", "#", "##"]),
    st.sampled_from(["21", "61", "62", "67", "002", "004"]),
    st.text("0123456789*#+", max_size=20),
)
def test_no_writing_of_a_redirection_passes(procedure: str, service: str, fields: str):
    assert UssdRules().refusal(f"{procedure}{service}*{fields}#") is not None
    assert UssdRules().refusal(f"{procedure}{service}#") is not None


@pytest.mark.parametrize(
    "text",
    [
        *(
            "Main menu",
            "ANA MENÜ",
            "menüye dönmek için 0",
            "Bir seçenek girin",
            "SEÇENEKLER",
            "Options follow",
            "Lütfen seçiniz",
            "SEÇİNİZ",
        ),
        *(
            "Select:",
            "tutarı giriniz",
            "Enter amount",
            "0 Geri",
            "00 Back",
            "ÇIKIŞ",
            "9-exit",
            "İPTAL",
            "Cancel",
            "seçi" + "\u0307niz",
            "SEC\u0327ENEK",
            "MENU\u0308",
        ),
        *("1. Bakiye 2. Paketler", "1.Bakiye\n2.Paket", "1) Balance 2) Data", "1-Bakiye\n2-Paket", "1 - A\n3 - B", "iptali", "1:a 3:b"),
    ],
)
def test_a_menu_is_known_by_its_words_or_numbers(text: str):
    assert is_menu(text)


@pytest.mark.parametrize(
    "text",
    [
        *("", "Bakiyeniz 12,50 TL", "Your balance is $3.40", "1.250,50 TL", "Valid until 3. Mai", "Call center 1-800"),
        *(
            "at 1:30 pm",
            "1",
            "1. sıradasınız",
            "Kalan 1.5 GB, 2.5 SMS",
            "cancelled",
            "enterprise",
            "background",
            "Exiting news",
            "123. Street 2",
        ),
    ],
)
def test_an_answer_is_no_menu(text: str):
    assert not is_menu(text)


@pytest.mark.parametrize(
    ("text", "balance"),
    [
        ("Bakiyeniz 12,50 TL", "12.50"),
        ("BAKİYENİZ: 12,50 TL dir.", "12.50"),
        ("BAKIYENIZ: 12,50 TL dir.", "12.50"),
        ("Your balance is $3.40.", "3.40"),
        ("Balance: 1,234.56 USD", "1234.56"),
        ("Kalan bakiyeniz 1.234,56 TL", "1234.56"),
        ("Guthaben 1 234,5 EUR", "1234.5"),
        ("Ihr Guthaben beträgt 1'234.50 CHF", "1234.50"),
        ("Saldo 1.234", "1234"),
        ("Saldo 0.234", "0.234"),
        ("Saldo 12.345.678", "12345678"),
        ("Kalan 5 SMS", None),
        ("remaining: 30 min", None),
        ("Kalan 1.5GB", None),
        ("Kalan 12,50 TL", "12.50"),
        ("Balance 15 TL, 30 SMS", "15"),
        ("balance -3.40", "-3.40"),
        ("balance -$3.40", "-3.40"),
        ("Bakiyeniz - 12,50 TL", "12.50"),
        ("Your balance as of 01.02.2024 is unknown", None),
        ("No such thing 12,50", None),
        ("balance unknown", None),
        ("Balance 12/05, balance 3.40", "3.40"),
        ("balance " + "x" * 100 + " 5", None),
        ("", None),
    ],
)
def test_a_balance_is_read_in_several_languages(text: str, balance: str | None):
    assert read_balance(text) == (None if balance is None else Decimal(balance))


def test_a_pattern_of_one_s_own_reads_other_answers():
    pattern = re.compile(r"(?P<balance>\d+,\d\d) TL kald[iı]")
    assert read_balance("Hattinizda 7,25 TL kaldi", pattern) == Decimal("7.25")
    assert read_balance("Bakiyeniz 12,50 TL", pattern) is None
    for useless in (r"(?P<balance>)", r"x(?P<balance>\d+)?", r"(?P<balance>[a-z.,]+)"):
        assert read_balance("x., balance", re.compile(useless)) is None


@given(st.decimals(0, 10_000_000, places=2), st.sampled_from([(",", "."), (".", ","), (" ", ","), ("'", "."), ("", ".")]))
def test_an_amount_is_read_as_it_was_written(value: Decimal, marks: tuple[str, str]):
    thousands, point = marks
    written = f"{value:,.2f}".replace(",", "T").replace(".", point).replace("T", thousands)
    assert read_balance(f"Your balance is {written} TL.") == value


@given(st.text("balnce0123.,-' $\n:", max_size=300))
def test_any_text_has_a_balance_or_none(text: str):
    found = read_balance("balance " + text)
    assert found is None or found.is_finite()


@given(st.text(max_size=300))
def test_any_text_is_a_menu_or_not(text: str):
    assert is_menu(text) in (True, False)
