"""What a simulated carrier answers."""

from decimal import Decimal

import pytest

from signal_gateway.domain.ussd import is_menu, read_balance
from signal_gateway.testing.ussd_menus import (
    BALANCE,
    CODES,
    INVALID_STRING,
    MAIN,
    PACKAGES,
    SESSION_S,
    TIMED_OUT,
    Menu,
    Session,
)


def every_menu(menu: Menu) -> list[Menu]:
    return [menu, *(below for chosen in menu.choices.values() for below in every_menu(chosen))]


def test_the_gateway_takes_each_menu_for_one_and_each_last_word_for_none():
    menus = [menu for code in CODES.values() for menu in every_menu(code)]
    assert len(menus) == 8
    assert [menu.text for menu in menus if is_menu(menu.answer(Decimal(1))) is not menu.is_menu] == []


def test_the_balance_is_said_with_a_decimal_comma_and_can_be_read():
    assert BALANCE.answer(Decimal("12.5")) == "Bakiyeniz 12,50 TL"
    assert read_balance(BALANCE.answer(Decimal("7.05"))) == Decimal("7.05")


def test_a_dialogue_goes_down_the_menus_and_ends_with_a_last_word():
    session = Session("s", MAIN, 0)
    assert session.choose("2", 10) is None
    assert session.menu is PACKAGES
    assert session.choose(" 1 ", 20) is None
    assert not session.is_open(20)
    assert session.choose("1", 21) == TIMED_OUT


def test_what_is_no_choice_is_refused_and_leaves_the_menu():
    session = Session("s", MAIN, 0)
    assert session.choose("7", 1) == INVALID_STRING
    assert session.menu is MAIN


@pytest.mark.parametrize(("after_s", "is_open"), [(SESSION_S - 0.1, True), (SESSION_S, False)])
def test_a_dialogue_that_hears_nothing_ends(after_s: float, is_open: bool):
    session = Session("s", MAIN, 5)
    assert session.is_open(5 + after_s) is is_open
    assert (session.choose("1", 5 + after_s) is None) is is_open
