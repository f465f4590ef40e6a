"""The page of hazards names what exists: settings, metrics, and tests that cite the very number."""

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "hazards.md").read_text()
CODE = re.compile(r"`([^`]+)`")
NUMBER = re.compile(r"\bH\d\d\b")


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    number: str
    settings: str
    metrics: str
    shown_by: str


def rows_of(page: str) -> list[Row]:
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if re.match(r"\| H\d\d ", line)]
    return [Row(number, settings, metrics, shown_by) for number, _, _, settings, metrics, shown_by in cells]


ROWS = rows_of(PAGE)


def numbers_cited(path: Path) -> set[str]:
    return set(NUMBER.findall(path.read_text()))


def xfails(path: Path) -> int:
    """Marks of tests that are known to fail."""
    return len(re.findall(r"pytest\.mark\.xfail\(", path.read_text()))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.number)
def test_every_test_of_a_hazard_exists_and_cites_its_number(row: Row):
    paths = [ROOT / code for code in CODE.findall(row.shown_by) if code.startswith("tests/")]
    assert paths
    assert [path.name for path in paths if row.number not in numbers_cited(path)] == []


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.number)
def test_every_metric_of_a_hazard_stands_in_the_table_of_operations(row: Row):
    operations = (ROOT / "docs" / "operations.md").read_text()
    names = CODE.findall(re.sub(r"\([^)]*\)", "", row.metrics))
    assert [name for name in names if f"| `signal_gateway_{name}` |" not in operations and f"| `{name}` |" not in operations] == []


def test_the_numbers_are_in_order_and_stand_once():
    numbers = [row.number for row in ROWS]
    assert numbers == sorted(set(numbers))
    assert len(numbers) >= 20


def test_what_the_tests_of_hazards_cite_stands_in_the_table():
    cited = {number for path in (ROOT / "tests" / "hazards").glob("test_*.py") for number in numbers_cited(path)}
    assert cited - {row.number for row in ROWS} == set()


def test_every_known_gap_is_told_and_nothing_more_is():
    told = PAGE.partition("## Not so yet")[2].count("\n- ")
    assert told == sum(xfails(path) for path in (ROOT / "tests" / "hazards").glob("*.py"))
