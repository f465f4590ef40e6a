"""What README and docs name exists, and what they mark as running runs.

A fenced block behind `<!-- runs -->` is run here, in an empty folder: `python` blocks as a program, `console` blocks line by line, each
`$ signal-gateway …` or `$ python …` with the output below it, where `...` stands for anything.
"""

import doctest
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer.main

from signal_gateway.cli import app
from signal_gateway.config import fields_of, sections

ROOT = Path(__file__).parent.parent
PAGES = sorted(page for page in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")))
OPERATORS_PAGES = [page for page in PAGES if page.name not in ("ARCHITECTURE.md", "CONTRIBUTING.md")]
"""Where `link.answer` is a setting, or a mistake; in the others it may be a method."""
FENCE = re.compile(r"^(?P<mark><!-- runs -->\n+)?```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`([^`\n]+)`")
SECONDS_MAX = 60


@dataclass(frozen=True)
class Block:
    """One fenced block of a page."""

    page: str
    line: int
    language: str
    text: str
    runs: bool

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks_of(page: str, text: str) -> list[Block]:
    return [
        Block(page, text[: found.start()].count("\n") + 1, found["language"], found["text"], bool(found["mark"]))
        for found in FENCE.finditer(text)
    ]


BLOCKS = [block for page in PAGES for block in blocks_of(page.relative_to(ROOT).as_posix(), page.read_text())]
PAGE_IDS = [page.relative_to(ROOT).as_posix() for page in PAGES]


def code_of(text: str) -> list[str]:
    """All code of a page: inline, and the lines of fenced blocks, continued lines joined."""
    lines = [line for block in blocks_of("", text) for line in block.text.replace("\\\n", " ").splitlines()]
    return CODE.findall(FENCE.sub("", text)) + lines


def faults_of_command(words: list[str]) -> list[str]:
    """What is wrong with `signal-gateway` and these words: commands and options that do not exist."""
    command: Any = typer.main.get_command(app)
    faults: list[str] = []
    for word in words:
        if word in ("|", "&", "&&", ">", ";", "#"):
            break
        if word.startswith("--"):
            known = {option for parameter in command.params for option in parameter.opts} | {"--help"}
            if word.partition("=")[0] not in known:
                faults.append(f"{command.name} has no option {word}")
        elif hasattr(command, "commands"):
            if word not in command.commands:
                return [*faults, f"{command.name} has no command {word}"]
            command = command.commands[word]
    return faults


def named_commands(text: str) -> list[list[str]]:
    """The words behind each `signal-gateway` of a page's code."""
    found: list[list[str]] = []
    for code in code_of(text):
        match = re.match(r"(?:\$ )?(?:\S*/)?signal-gateway (?P<rest>[a-z-].*)", code.strip())
        if match:
            try:
                found.append(shlex.split(match["rest"], comments=True))
            except ValueError:
                found.append(match["rest"].split())
    return found


@pytest.mark.parametrize("page", PAGES, ids=PAGE_IDS)
def test_commands_and_options_that_a_page_names_exist(page):
    faults = [fault for words in named_commands(page.read_text()) for fault in faults_of_command(words)]
    assert faults == []


@pytest.mark.parametrize("page", OPERATORS_PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_settings_that_a_page_names_exist(page):
    text = FENCE.sub(lambda block: "" if block["mark"] else block[0], page.read_text())  # what runs may show a mistake on purpose
    known = {f"{name}.{key}" for name, section in sections().items() for key in fields_of(section)}
    dotted = {
        code for code in code_of(text) if re.fullmatch(rf"({'|'.join(sections())})\.[a-z0-9_]+", code) and not code.endswith((".py", ".md"))
    }
    variables = {name.lower().replace("__", ".", 1) for name in re.findall(r"SIGNAL_GATEWAY_([A-Z]+__[A-Z0-9_]+)", text)}
    variables = {name.removesuffix("_file") if name not in known else name for name in variables} - {"section.key"}
    assert (dotted | variables) - known == set()


@pytest.mark.parametrize("page", PAGES, ids=PAGE_IDS)
def test_targets_of_make_and_files_that_a_page_names_exist(page):
    text = page.read_text()
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {match[1] for code in code_of(text) if (match := re.match(r"(?:\$ )?make ([a-z]+)", code))}
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if not re.match(r"[a-z]+:|#", link)]
    assert named - targets == set()
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_a_wrong_name_in_a_page_would_be_seen():
    text = "Say `signal-gateway chek-config` or\n```console\n$ signal-gateway key create --colour red \\\n    --label x\n```\n"
    said = [fault for words in named_commands(text) for fault in faults_of_command(words)]
    assert said == ["signal-gateway has no command chek-config", "create has no option --colour"]
    assert faults_of_command(["frame", "build", "heartbeat", "--json", "{}"]) == []


def run_python(block: Block, folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", block.text], cwd=folder, capture_output=True, text=True, timeout=SECONDS_MAX, check=False
    )
    assert done.returncode == 0, f"{block}: {done.stderr[-2000:]}"


def run_console(block: Block, folder: Path) -> None:
    environ = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    checker = doctest.OutputChecker()
    for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        command, _, expected = part.partition("\n")
        done = subprocess.run(
            ["bash", "-c", command], cwd=folder, env=environ, capture_output=True, text=True, timeout=SECONDS_MAX, check=False
        )
        said = done.stdout + done.stderr
        assert checker.check_output(expected, said, doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE), f"{block}: $ {command}\n{said}"


@pytest.mark.slow
@pytest.mark.parametrize("block", [block for block in BLOCKS if block.runs], ids=str)
def test_a_block_that_is_marked_as_running_runs(block, tmp_path):
    (tmp_path / "config.toml").write_text((ROOT / "config.toml").read_text())
    {"python": run_python, "console": run_console}[block.language](block, tmp_path)


@pytest.mark.slow
def test_a_block_that_says_something_else_would_be_seen(tmp_path):
    run_console(Block("x", 1, "console", "$ echo one two three\none ... three\n", True), tmp_path)
    with pytest.raises(AssertionError, match="echo one"):
        run_console(Block("x", 1, "console", "$ echo one\ntwo\n", True), tmp_path)
    run_python(Block("x", 1, "python", "assert 1 + 1 == 2\n", True), tmp_path)
    with pytest.raises(AssertionError, match="x:1"):
        run_python(Block("x", 1, "python", "assert 1 + 1 == 3\n", True), tmp_path)
