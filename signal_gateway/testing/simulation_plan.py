"""What happens in one simulated run, as data: who is there, for how long, and what goes wrong."""

from dataclasses import dataclass, replace

import msgspec

from signal_gateway.domain.phone_settings import PhoneSettings
from signal_gateway.services.command_settings import CommandsSettings
from signal_gateway.services.room_settings import RoomsSettings
from signal_gateway.testing.behaviour import FLAWLESS, ROUGH, Behaviour
from signal_gateway.testing.faults import FaultPlan
from signal_gateway.testing.room_party import RoomPlay

STORM = FaultPlan(
    delay_s=(0.005, 0.4),
    split_chance=0.2,
    stall_chance=0.004,
    stall_s=(1.0, 40.0),
    cut_chance=0.003,
    reset_chance=0.003,
    vanish_chance=0.003,
    notice_s=(20.0, 240.0),
)
"""About three faults for each device and hour."""
COMMANDS, PHONE_SETTINGS, ROOMS = CommandsSettings(), PhoneSettings(), RoomsSettings()


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulationPlan:
    """What happens in one run."""

    phones: int = 10
    agents: int = 10
    """Half of them CONNECT, half REGISTER."""
    doubles: int = 2
    """Phones and agents of which there are two, who take each other's place."""
    storm_s: float = 3300.0
    """Seconds with faults, over all lives of the gateway."""
    calm_s: float = 300.0
    """Seconds without, at the end."""
    faults: FaultPlan = STORM
    lives: int = 3
    """Of the gateway: one in two of the changes is a crash, the others are restarts in good order."""
    report_every_s: float = 300.0
    """Mean time between two reports of a device."""
    unregister_every_s: float = 1200.0
    """Mean time between two UNREGISTERs of an agent that registers."""
    commit_fails_chance: float = 0.01
    """That the database is down when a transaction commits."""
    commit_doubt_chance: float = 0.005
    """That its answer to a commit is lost."""
    slow_answer_chance: float = 0.02
    """That it lets wait for an answer, be it to a read or a commit."""
    slow_answer_s: tuple[float, float] = (0.0, 3.0)
    command_every_s: float | None = None
    """Mean time between two commands of an operator; None = there is none. What is asked for in the storm must end in the calm."""
    ttl_s: float = 1800.0
    """Of each command."""
    behaviour: Behaviour = FLAWLESS
    """Of the phones, until the calm."""
    commands: CommandsSettings = COMMANDS
    phone_settings: PhoneSettings = PHONE_SETTINGS
    come_back_s: tuple[float, float] = (60.0, 600.0)
    """Seconds after which somebody starts a device again that was told to stay away."""
    play: RoomPlay | None = None
    """What agents do in rooms; then all of them REGISTER. None = nothing."""
    rooms: RoomsSettings = ROOMS


OPERATED = SimulationPlan(
    phones=4,
    agents=0,
    storm_s=2 * 3600.0,
    calm_s=1.5 * 3600.0,
    lives=5,
    slow_answer_chance=0.1,
    command_every_s=30.0,
    behaviour=ROUGH,
    commands=CommandsSettings(delivery_s=1800.0),
    phone_settings=PhoneSettings(
        enable_sms_limits=True,
        sim1_daily_sms_limit=20,
        sim1_monthly_sms_limit=35,
        sim2_daily_sms_limit=10,
        sim2_monthly_sms_limit=15,
        sms_limit_reset_hour=1,
        sim2_guard_interval=20,
    ),
)
"""Rough phones with tight limits, of which a day ends in the middle, and an operator who does not care."""

ROOMED = SimulationPlan(
    phones=0,
    agents=5,
    doubles=3,
    storm_s=400.0,
    calm_s=100.0,
    faults=replace(
        STORM, stall_chance=0.006, cut_chance=0.006, reset_chance=0.006, vanish_chance=0.006, stall_s=(1.0, 20.0), notice_s=(5.0, 60.0)
    ),
    report_every_s=1e9,
    unregister_every_s=150.0,
    come_back_s=(5.0, 60.0),
    play=RoomPlay(),
    rooms=RoomsSettings(
        max_receivers=2, departure_grace_s=6.0, restart_grace_s=20.0, empty_s=30.0, life_s=150.0, early_s=2.0, archive_write_s=0.25
    ),
)
"""Clients who make each other's life in rooms hard, most of them with a second link."""


def roomed(seed: int) -> SimulationPlan:
    """The same with each way in which a room may go on without its sender, and with one room for a client or two, by turns."""
    rooms = msgspec.structs.replace(ROOMED.rooms, sender_leaves=("wait", "promote", "close")[seed % 3], per_client_max=1 + seed // 3 % 2)
    return replace(ROOMED, rooms=rooms)
