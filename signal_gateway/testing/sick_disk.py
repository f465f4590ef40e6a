"""The database of a simulation, with what goes wrong on it: it refuses commits, loses its answers or lets wait for them, and it dies."""

from random import Random

from signal_gateway.domain.errors import DatabaseDown
from signal_gateway.storage.database import InlineDatabase
from signal_gateway.storage.faults import OutcomeUnknown
from signal_gateway.storage.inline import Image
from signal_gateway.testing.history import DATABASE, History
from signal_gateway.testing.simulation_plan import SimulationPlan


class SickDisk:
    """Outlives its gateways. The number of a commit says nothing of what goes wrong with it: chance does."""

    def __init__(self, plan: SimulationPlan, history: History, random: Random) -> None:
        self._plan = plan
        self._history = history
        self._random = random
        self._is_ill = self._is_dying = False
        self.database = self._made()
        """That of this life; after a crash it is another."""

    def fall_ill(self) -> None:
        """From now on things go wrong."""
        self._is_ill = True

    def die(self) -> None:
        """From now on nothing is committed."""
        self._is_dying = True

    def recover(self) -> None:
        """From now on all is well."""
        self._is_ill = self._is_dying = False

    def restore(self, image: Image) -> None:
        """What a crash left is the database of the next life."""
        self.database.close()
        self.database = self._made(image)

    def _made(self, image: Image | None = None) -> InlineDatabase:
        return InlineDatabase(self._before_commit, self._after_commit, self._wait_s, image=image)

    def _before_commit(self, _number: int) -> None:
        if self._is_dying:
            raise DatabaseDown
        if self._happens(self._plan.commit_fails_chance):
            self._history.note(DATABASE, "down")
            raise DatabaseDown

    def _after_commit(self, _number: int) -> None:
        if self._happens(self._plan.commit_doubt_chance):
            self._history.note(DATABASE, "answer lost")
            raise OutcomeUnknown("", None)

    def _wait_s(self) -> float:
        return self._random.uniform(*self._plan.slow_answer_s) if self._happens(self._plan.slow_answer_chance) else 0.0

    def _happens(self, chance: float) -> bool:
        return self._is_ill and self._random.random() < chance
