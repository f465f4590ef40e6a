"""What the pages show against a server is done against one; what they say of metrics is compared with a real scrape."""

import doctest
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.server import Server, running

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
SECONDS_MAX = 60
METRIC = re.compile(r"\A(?:signal_gateway|process)_[a-z_]+\Z")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("server")) as server:
        yield server


def blocks(page: str, tag: str, language: str) -> list[str]:
    """The blocks of a page behind the comment `tag`."""
    pattern = rf"^<!-- {tag} -->\n```{language}\n(.*?)^```$"
    return re.findall(pattern, (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)


def run(words: list[str], folder: Path) -> str:
    done = subprocess.run(
        words,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_phone_of_the_readme_is_heard(server: Server, tmp_path: Path):
    (program,) = blocks("README.md", "against a server", "python")
    said = run([sys.executable, "-W", "error", "-c", program.replace("ws://127.0.0.1:8080/ws", server.url)], tmp_path)
    assert f"```text\n{said}```" in (ROOT / "README.md").read_text()


def test_the_agents_frame_of_the_readme_is_answered_as_shown(server: Server, tmp_path: Path):
    (shown,) = blocks("README.md", "against a server", "console")
    command, _, expected = shown.removeprefix("$ .venv/bin/signal-gateway ").partition("\n")
    words = f"{sys.executable} -m signal_gateway {command}".replace("ws://127.0.0.1:8080/ws", server.url)
    said = run(["bash", "-c", words], tmp_path)
    assert doctest.OutputChecker().check_output(expected, said, doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE), said


def test_health_is_told_as_the_readme_shows_it(server: Server):
    shown = re.findall(r"^\$ curl http://127.0.0.1:9090/health\n(.*)$", (ROOT / "README.md").read_text(), re.MULTILINE)
    status, body = server.get("/health")
    assert status == 200
    assert [json.loads(body)] == [json.loads(line) for line in shown]


def test_operations_tells_of_every_metric_and_of_no_other(server: Server):
    page = (ROOT / "docs" / "operations.md").read_text()
    told = {name for line in page.splitlines() for name in re.findall(r"^\| `([a-z_]+)` \|", line) if METRIC.match(name)}
    kinds = dict(re.findall(r"^# TYPE (\S+) (\w+)$", server.get("/metrics")[1], re.MULTILINE))
    assert told == set(kinds)


def test_the_tests_of_the_testing_page_pass(tmp_path: Path):
    for number, block in enumerate(blocks("docs/testing.md", "pytest", "python")):
        (tmp_path / f"test_{number}.py").write_text(block)
    said = run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "trio_mode=true"], tmp_path)
    assert "5 passed" in said


def test_the_backup_of_the_operations_page_is_a_whole_database(server: Server, tmp_path: Path):
    page = (ROOT / "docs" / "operations.md").read_text()
    (line,) = re.findall(r"^\$ signal-gateway (backup .*)$", page, re.MULTILINE)
    copy = tmp_path / "backup.db"
    run([sys.executable, "-m", "signal_gateway", *line.replace("backup.db", str(copy)).split()], server.folder)
    kept = "import sqlite3, sys; print(sqlite3.connect(sys.argv[1]).execute('select version_num from alembic_version').fetchone()[0])"
    assert run([sys.executable, "-c", kept, str(copy)], tmp_path).strip()
