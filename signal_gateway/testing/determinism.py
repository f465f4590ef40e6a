"""One seed, one order of events: what Trio and the standard library leave to chance, taken from a seed instead.

Under a virtual clock, over memory, with inline SQL, two things are left that differ from run to run. Trio runs the tasks that are ready
in an order of chance, by a Random of its own; it first sorts them, so that the seed of that Random decides, only where it is told to.
And some of our code, and trio-websocket, ask the `random` module's shared generator (a Retry-After, the payload of a ping).

Trio's switch is private. Its versions are bounded in pyproject.toml, `drawn_from` refuses to run where it does not find the switch, and
a test shows that it still does what it did.
"""

import random
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, cast

from trio._core import _run  # pyright: ignore[reportPrivateUsage]

_trio: Any = cast("Any", _run)
_seeds: list[int] = []  # those that are in force, outermost first


class SwitchMoved(RuntimeError):
    """This version of Trio orders its tasks in another way than the one that this file was written for."""


@contextmanager
def drawn_from(seed: int) -> Generator[None]:
    """While this lasts, `seed` decides what is left to chance; afterwards both generators go on where they were.

    Of several at a time, one inside the other, the outermost decides: a world inside a simulation goes on with the simulation's chance.
    """
    _check_switch()
    if _seeds:
        yield
        return
    ours, theirs, sorts = random.getstate(), _trio._r.getstate(), _trio._ALLOW_DETERMINISTIC_SCHEDULING
    _seeds.append(seed)
    random.seed(seed)
    _trio._r.seed(seed)
    _trio._ALLOW_DETERMINISTIC_SCHEDULING = True
    try:
        yield
    finally:
        _trio._ALLOW_DETERMINISTIC_SCHEDULING = sorts
        _trio._r.setstate(theirs)
        random.setstate(ours)
        _seeds.clear()


def _check_switch() -> None:
    """Raise SwitchMoved where Trio would not obey."""
    names = _trio.unrolled_run.__code__.co_names
    if not {"_ALLOW_DETERMINISTIC_SCHEDULING", "_r"} <= set(names) or not isinstance(_trio._r, random.Random):
        raise SwitchMoved("trio's run loop no longer asks _ALLOW_DETERMINISTIC_SCHEDULING and _r: see testing/determinism.py")
