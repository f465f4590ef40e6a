"""The floors, the sizes and the names, before a reviewer must say so (DESIGN §3)."""

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = sorted(path for folder in ("signal_gateway", "protocol") for path in (ROOT / folder).rglob("*.py"))
BENCHES = sorted(path for path in (ROOT / "bench").rglob("*.py") if ".peers" not in path.parts)  # which holds what others wrote
TESTS = sorted((ROOT / "tests").rglob("*.py")) + BENCHES
FILE_LINES_MAX = 400
TEST_FILE_LINES_MAX = 600
FUNCTION_LINES_MAX = 60
NAMES_WITHOUT_A_HOME = {"utils", "util", "helpers", "helper", "common", "manager", "base", "misc", "core"}

OWNERS = {
    "trio_websocket": ("signal_gateway/websocket/", "signal_gateway/testing/"),
    "wsproto": ("signal_gateway/websocket/", "signal_gateway/testing/"),
    "prometheus_client": ("signal_gateway/observe/",),
    "structlog": ("signal_gateway/observe/",),
    "logging": ("signal_gateway/observe/",),
    "sqlalchemy": ("signal_gateway/storage/",),
    "aiosqlite": ("signal_gateway/storage/",),
    "asyncpg": ("signal_gateway/storage/",),
    "alembic": ("signal_gateway/storage/",),
    "asyncio": ("signal_gateway/storage/",),
    "sqlite3": ("signal_gateway/storage/",),
    "construct": ("protocol/frame_spec.py",),
    "cbor2": ("protocol/payload.py",),
    "coredis": ("signal_gateway/bus/",),
    "phonenumbers": ("signal_gateway/domain/phone_number.py",),
    "fastapi": ("signal_gateway/api/",),
    "hypercorn": ("signal_gateway/api/",),
    "pydantic": ("signal_gateway/api/",),
    "starlette": ("signal_gateway/api/",),
    "httpx2": ("signal_gateway/bridges/",),
    "joserfc": ("signal_gateway/services/",),
    "segno": ("signal_gateway/api/", "signal_gateway/cli"),
    "typer": ("signal_gateway/cli",),
    "tomllib": ("signal_gateway/config_",),
    "aiortc": (),
}
"""Which folder or file may import an outside library: one owner each, so that one place knows its habits."""

NEVER_IN_DOMAIN = {"trio", "time", "random", "os", "socket", "pathlib"}
ASKS_FOR_THE_TIME = {"now", "utcnow", "today"}
NEVER_IN_PROTOCOL = {"trio", "time", "random", "os", "socket", "pathlib"}


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def imports_of(path: Path) -> set[str]:
    """The outermost names of all that a file imports, wherever in it."""
    found: set[str] = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.add(node.module.partition(".")[0])
    return found


def strangers(path: Path, imported: set[str]) -> list[str]:
    """The libraries that this file imports and does not own."""
    return sorted(library for library in imported & OWNERS.keys() if not name_of(path).startswith(OWNERS[library]))


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_a_file_imports_no_library_that_another_owns(path):
    assert strangers(path, imports_of(path)) == []


def test_a_library_in_a_stranger_s_file_would_be_seen():
    service = ROOT / "signal_gateway" / "services" / "presence.py"
    assert strangers(service, {"trio", "sqlalchemy", "structlog"}) == ["sqlalchemy", "structlog"]
    assert strangers(ROOT / "protocol" / "frame.py", {"construct"}) == ["construct"]
    assert strangers(ROOT / "protocol" / "frame_spec.py", {"construct"}) == []


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_rules_have_no_clock_and_wire_formats_no_input_or_output(path):
    name = name_of(path)
    never = NEVER_IN_DOMAIN if name.startswith("signal_gateway/domain/") else NEVER_IN_PROTOCOL if name.startswith("protocol/") else set()
    assert imports_of(path) & never == set()
    if never:  # a calendar is a rule, the time of day is none
        assert {node.attr for node in ast.walk(tree_of(path)) if isinstance(node, ast.Attribute)} & ASKS_FOR_THE_TIME == set()


@pytest.mark.parametrize("path", [*SOURCES, *TESTS], ids=name_of)
def test_a_file_can_be_read_in_one_sitting(path):
    limit = FILE_LINES_MAX if path in SOURCES else TEST_FILE_LINES_MAX
    assert len(path.read_text().splitlines()) <= limit


@pytest.mark.parametrize("path", [path for path in SOURCES if "versions" not in path.parts], ids=name_of)  # a migration is a list
def test_a_function_fits_on_a_screen(path):
    long = [
        f"{node.name}: {node.end_lineno - node.lineno + 1} lines"
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno
        and node.end_lineno - node.lineno >= FUNCTION_LINES_MAX
    ]
    assert long == []


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_no_file_or_folder_has_a_name_for_anything(path):
    words = {part.removesuffix(".py") for part in path.relative_to(ROOT).parts}
    assert words & NAMES_WITHOUT_A_HOME == set()


def is_public(name: str) -> bool:
    return not name.startswith("_")


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_every_module_and_every_public_name_says_what_it_is(path):
    tree = tree_of(path)
    silent = [] if ast.get_docstring(tree) or not path.read_text().strip() else ["the module"]
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and is_public(node.name):
            if not ast.get_docstring(node):
                silent.append(node.name)
            if isinstance(node, ast.ClassDef):
                methods = [each for each in node.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef) and is_public(each.name)]
                silent += [f"{node.name}.{each.name}" for each in methods if not ast.get_docstring(each)]
    assert silent == []


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_nothing_is_left_for_later_and_no_error_is_swallowed(path):
    tree = tree_of(path)
    words = [word for word in ("TO" + "DO", "FIX" + "ME", "XX" + "X", "NotImplementedError") if word in path.read_text()]
    swallowed = [
        handler.lineno
        for handler in ast.walk(tree)
        if isinstance(handler, ast.ExceptHandler)
        and all(isinstance(statement, ast.Pass) for statement in handler.body)
        and (handler.type is None or ast.unparse(handler.type) in ("Exception", "BaseException"))
    ]
    assert (words, swallowed) == ([], [])


@pytest.mark.parametrize("path", [path for path in TESTS if path.name.startswith("test_")], ids=name_of)
def test_a_test_has_a_name_of_its_own(path):
    """A second function of the same name would silently replace the first."""
    names = [node.name for node in tree_of(path).body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    assert sorted(names) == sorted(set(names))


@pytest.mark.slow
def test_imports_go_down_the_floors_only():
    """The contracts stand in pyproject.toml; they are exhaustive, so a new file must find its floor, and layers exclude cycles."""
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
