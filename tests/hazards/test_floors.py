"""Versions of libraries below which a known hole is open (H34)."""

import re
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
FLOORS = {"cbor2": (5, 9), "h11": (0, 16)}
"""cbor2: memory read past its end, and recursion without a bound; h11: a chunked body whose end is not looked at."""


def number_of(text: str) -> tuple[int, ...]:
    """The beginning of a version that is numbers: 5.9.0rc1 is 5.9."""
    found = re.match(r"\d+(\.\d+)*", text)
    assert found is not None, text
    return tuple(map(int, found[0].split(".")))


@pytest.mark.parametrize(("library", "floor"), FLOORS.items())
def test_the_installed_version_is_above_the_hole(library: str, floor: tuple[int, ...]):
    assert number_of(version(library)) >= floor


@pytest.mark.parametrize(("library", "floor"), FLOORS.items())
def test_no_older_one_may_be_installed(library: str, floor: tuple[int, ...]):
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    (requirement,) = [line for line in declared if re.match(rf"{library}\b", line)]
    least = re.search(r">=\s*([\d.]+)", requirement)
    assert least is not None
    assert number_of(least[1]) >= floor


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-dev.lock"])
@pytest.mark.parametrize(("library", "floor"), FLOORS.items())
def test_what_is_locked_is_above_the_hole(library: str, floor: tuple[int, ...], lock: str):
    locked = re.search(rf"^{library}==([\d.]+)", (ROOT / lock).read_text(), re.MULTILINE)
    assert locked is not None
    assert number_of(locked[1]) >= floor


def test_versions_are_compared_by_number():
    assert number_of("5.10.1") > number_of("5.9.0rc1") >= (5, 9) > number_of("5.8.9")
