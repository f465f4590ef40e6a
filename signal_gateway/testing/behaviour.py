"""How well a simulated phone does what it is told: how long it takes, how often it fails, what it forgets to say."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """Chances are 0 to 1, times are seconds, drawn between the two."""

    send_s: tuple[float, float] = (0.0, 0.0)
    """From a command to its sending."""
    network_error: float = 0.0
    """Nothing is sent, and the phone says so; it may be tried again (T-46)."""
    sim_error: float = 0.0
    """The SIM refuses, and the phone says so."""
    names_command: float = 0.0
    """Whether a report repeats the id of its command, which the seed's phones do not (C-24)."""
    says_nothing: float = 0.0
    """It is sent, and the phone never says so (H20)."""
    restarts: float = 0.0
    """The phone restarts between sending and saying so, for this long:"""
    restart_s: tuple[float, float] = (20.0, 60.0)
    says_twice: float = 0.0
    delivery_s: tuple[float, float] = (1.0, 5.0)
    delivery_fails: float = 0.0
    delivery_twice: float = 0.0
    delivery_never: float = 0.0
    ussd_fails: float = 0.0
    """With one of the failure codes of T-39."""


FLAWLESS = Behaviour()
"""At once, and always."""
REAL_LIFE = Behaviour(
    send_s=(0.5, 4.0),
    network_error=0.02,
    sim_error=0.002,
    names_command=0.5,
    says_nothing=0.001,
    restarts=0.002,
    delivery_s=(2.0, 60.0),
    delivery_fails=0.02,
    delivery_twice=0.02,
    delivery_never=0.03,
    ussd_fails=0.05,
)
"""A fleet on a good day."""
ROUGH = Behaviour(
    send_s=(0.0, 20.0),
    network_error=0.2,
    sim_error=0.05,
    names_command=0.5,
    says_nothing=0.05,
    restarts=0.1,
    says_twice=0.2,
    delivery_s=(0.0, 120.0),
    delivery_fails=0.1,
    delivery_twice=0.2,
    delivery_never=0.2,
    ussd_fails=0.3,
)
"""Everything that can go wrong does."""
BEHAVIOURS = {"perfect": FLAWLESS, "real-life": REAL_LIFE, "rough": ROUGH}
