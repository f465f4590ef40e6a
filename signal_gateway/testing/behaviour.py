"""How a simulated phone behaves: delays, and the chance of everything that happens to real ones (T-39, T-46, C-24, C-26, H20)."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from random import Random

Seconds = tuple[float, float]
"""A time is drawn between these."""
NOTHING: Seconds = (0.0, 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """Chances are 0 to 1, each drawn from the phone's own Random. As it stands: a phone at once obedient and without a fault."""

    send_s: Seconds = NOTHING
    """From the command to the radio's word on an SMS or an RCS message."""
    ussd_s: Seconds = NOTHING
    """From dialling to the network's answer."""
    network_error_chance: float = 0.0
    """That the radio cannot send: reported as failed, and nothing went out."""
    sim_error_chance: float = 0.0
    """That the SIM refuses: reported as failed, and an alarm is sent (T-46)."""
    ussd_failure_chance: float = 0.0
    """That a USSD code ends with one of `ussd_failure_codes`."""
    ussd_failure_codes: tuple[int, ...] = (-1, 1, 3, 5, 7)
    """Of T-39. In each of them nothing was done; 2 and 8, a wrong code, come of the code itself."""
    ring_failure_chance: float = 0.0
    """That the phone cannot ring, or cannot stop."""
    names_message_chance: float = 0.0
    """That an `sms_log` or an `rcs_log` says which command it answers. The seed's does not (C-24)."""
    delivery_chance: float = 1.0
    """That the network tells at all what became of an SMS or an RCS message."""
    read_chance: float = 0.0
    """That an RCS message which was delivered is read."""
    delivery_s: Seconds = (0.5, 1.5)
    """From sending to the network's report."""
    delivery_failed_chance: float = 0.0
    delivery_twice_chance: float = 0.0
    """That the network's report comes a second time."""
    delivery_pending_chance: float = 0.0
    """That the network first says that it is still trying."""
    reports_parts: bool = True
    """Whether each part of a long SMS has its own report."""
    numbers_parts: bool = True
    """Whether such a report says by the additive `part` and `parts` of which it is. The seed's does not (T-23)."""
    answer_lost_chance: float = 0.0
    """That a command is obeyed and the phone never says so."""
    restart_chance: float = 0.0
    """That the phone restarts between doing and reporting: the report comes with its next link (H20), and what waited for a SIM is gone."""
    restart_s: Seconds = (5.0, 60.0)
    """How long it is away then."""
    repeat_chance: float = 0.0
    """That the last report, which was acknowledged, is sent once more with the next link."""
    says_twice_chance: float = 0.0
    """That a report is sent twice at once, as by a phone that missed the first acknowledgement."""
    keeps_reports: bool = True
    """Whether reports of results carry a `request_id` and are repeated until acknowledged. The seed's phone does neither."""
    acknowledges_commands: bool = False
    """Whether each command that has an id is answered by COMMAND_ACK first."""
    deduplicates: bool = False
    """Whether a command whose id it knows is only answered again. Without it, a server that sends twice is found out."""
    price_per_segment: Decimal = Decimal(0)
    """Taken from the SIM's balance."""

    def draw_s(self, random: Random, between: Seconds) -> float:
        """A time between these; nothing is drawn where there is nothing to choose."""
        return between[0] if between[0] == between[1] else random.uniform(*between)

    def happens(self, random: Random, chance: float) -> bool:
        """Whether it does, this time; nothing is drawn where it never does."""
        return chance > 0 and random.random() < chance


FLAWLESS = Behaviour()
REAL_LIFE = Behaviour(
    send_s=(1.0, 6.0),
    ussd_s=(2.0, 8.0),
    network_error_chance=0.02,
    sim_error_chance=0.001,
    ussd_failure_chance=0.03,
    ring_failure_chance=0.01,
    names_message_chance=0.5,
    delivery_chance=0.97,
    delivery_s=(2.0, 120.0),
    delivery_failed_chance=0.01,
    delivery_twice_chance=0.01,
    read_chance=0.6,
    answer_lost_chance=0.001,
    restart_chance=0.001,
    price_per_segment=Decimal("0.01"),
)
"""A phone on a table, with a good contract."""
ROUGH = Behaviour(
    send_s=(0.5, 45.0),
    ussd_s=(1.0, 30.0),
    network_error_chance=0.1,
    sim_error_chance=0.02,
    ussd_failure_chance=0.15,
    ring_failure_chance=0.1,
    names_message_chance=0.5,
    delivery_chance=0.85,
    delivery_s=(0.1, 1800.0),
    delivery_failed_chance=0.05,
    delivery_twice_chance=0.2,
    delivery_pending_chance=0.2,
    read_chance=0.3,
    numbers_parts=False,
    answer_lost_chance=0.03,
    restart_chance=0.05,
    restart_s=(5.0, 300.0),
    repeat_chance=0.3,
    says_twice_chance=0.2,
)
"""Everything that can happen, far too often."""

BEHAVIOURS: Mapping[str, Behaviour] = {"perfect": FLAWLESS, "real-life": REAL_LIFE, "rough": ROUGH}
"""By the word that `signal-gateway simulate --behaviour` takes."""
