"""A small network's USSD service: a balance, a menu with a menu in it, and nothing else."""

from decimal import Decimal

MAIN = "Menü\n1. Bakiye\n2. Paketler\n0. Geri"
PACKAGES = "Seçiniz\n1. 1 GB\n2. 5 GB\n0. Geri"


class UssdService:
    """The sessions of one SIM."""

    def __init__(self) -> None:
        self._places: dict[str, str] = {}

    def dial(self, code: str, session_id: str, balance: Decimal) -> str | None:
        """The answer to a code; None when there is no such service."""
        if code == "*123#":
            return f"Bakiyeniz {balance:.2f} TL".replace(".", ",")
        if code == "*100#":
            self._places[session_id] = "main"
            return MAIN
        return None

    def reply(self, session_id: str, text: str, balance: Decimal) -> str | None:
        """The answer to what is entered into a menu; None when no session of this id is open."""
        place = self._places.pop(session_id, None)
        if place == "main" and text == "1":
            return f"Bakiyeniz {balance:.2f} TL".replace(".", ",")
        if place == "main" and text == "2":
            self._places[session_id] = "packages"
            return PACKAGES
        if place == "packages" and text in ("1", "2"):
            return "Paket tamam"
        return None if place is None else "Tekrar seçiniz"

    def is_open(self, session_id: str) -> bool:
        """Whether the session waits for a choice."""
        return session_id in self._places

    def end(self, session_id: str) -> None:
        """The phone has closed it."""
        self._places.pop(session_id, None)
