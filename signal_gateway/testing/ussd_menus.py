"""What a simulated carrier answers to USSD codes: a balance, and a menu with menus below it (T-24, T-41, C-26)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal


@dataclass(frozen=True, slots=True)
class Menu:
    """One answer. With `choices` it waits for one of them; without, it is the last word."""

    text: str
    """`{balance}` stands for what the SIM holds."""
    choices: Mapping[str, "Menu"] = field(default_factory=dict[str, "Menu"])

    @property
    def is_menu(self) -> bool:
        """Whether it waits for a choice."""
        return bool(self.choices)

    def answer(self, balance: Decimal) -> str:
        """As the network says it, with a decimal comma as in Turkey."""
        return self.text.replace("{balance}", f"{balance:.2f}".replace(".", ","))


BALANCE = Menu("Bakiyeniz {balance} TL")
PACKAGES = Menu(
    "1. 1 GB internet\n2. 500 dakika\n0. Geri",
    {"1": Menu("1 GB paketiniz etkin."), "2": Menu("500 dakika paketiniz etkin."), "0": Menu("İşlem sona erdi.")},
)
MAIN = Menu("Lütfen seçiniz:\n1. Bakiye\n2. Paketler\n3. Vazgeç", {"1": BALANCE, "2": PACKAGES, "3": Menu("İşlem sona erdi.")})
CODES: Mapping[str, Menu] = {"*123#": BALANCE, "*100#": MAIN}
"""What each code leads to; all others are invalid."""

CANCEL_CODES = ("0", "00", "000", "99", "999", "*0#", "*00#", "*000#", "*99#", "*999#")
"""What a phone enters one after the other to end a menu (T-42)."""
AUTO_CANCEL_S = 2.0
"""A menu is ended after so long, unless it is to stay open (T-42)."""
SESSION_S = 120.0
"""The network ends a session that hears nothing for so long."""
INVALID_CODE, TIMED_OUT, INVALID_STRING = 2, 5, 8


@dataclass(slots=True)
class Session:
    """A dialogue that is open on one SIM."""

    session_id: str
    menu: Menu
    heard_at: float
    """Seconds of Trio's clock: when it last heard something."""

    def is_open(self, now_s: float) -> bool:
        """Whether the network still listens."""
        return self.menu.is_menu and now_s - self.heard_at < SESSION_S

    def choose(self, reply: str, now_s: float) -> int | None:
        """Go on to what was chosen. Returns the failure code, or None when there is an answer."""
        if not self.is_open(now_s):
            return TIMED_OUT
        chosen = self.menu.choices.get(reply.strip())
        if chosen is None:
            return INVALID_STRING
        self.menu, self.heard_at = chosen, now_s
        return None
