"""SIGKILL during load, again and again: at the n-th fdatasync, and at random. Then every accepted command is looked at.

    python -m bench.kill [--kills 60]

The database and the phones live on from life to life; operators ask again under the same id until they are told 202.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from random import Random

import trio

from bench.build import Unmeasured
from bench.http_client import open_http
from bench.load import Figures
from bench.operated import QUIET, Operated, TimedPhone, living, on_the_other_core, phones_of, prepare, sms, started
from signal_gateway.config import load_config
from signal_gateway.domain.access import Scope
from signal_gateway.domain.command import Command, Step
from signal_gateway.observe.metrics import Metrics
from signal_gateway.storage import commands as kept
from signal_gateway.storage.database import open_database
from signal_gateway.testing import command_laws
from signal_gateway.testing.command_laws import CommandHistory, breaches
from signal_gateway.testing.handset import Effect

PHONES = 8
CALLERS = 8
LOAD_S = (0.2, 1.2)
FDATASYNCS = (30, 200)
"""Of the process: the first dozens are those of its start."""
DISPATCHED_S = 3.0
ENDS_WITHIN_S = 180.0
BEHAVIOUR = replace(QUIET, send_s=(0.0, 0.1), network_error_chance=0.05, names_message_chance=0.5)


class Lives:
    """The server's lives, and what outlives them. A server whose start the strace kills has had a life, too."""

    def __init__(self, folder: Path, kills: int) -> None:
        self.folder = folder
        self.kills = kills
        self.accepted: list[str] = []
        self.effects: list[Effect] = []
        self.killed_by_fdatasync = 0
        self._token = prepare(folder, DISPATCHED_S)
        self._random = Random(kills)
        self._server: Operated | None = None
        self._asked = 0
        self.phones = phones_of(self._url, PHONES, BEHAVIOUR)

    async def run(self) -> Figures:
        """All lives; the last one ends by itself, once nothing is under way any more."""
        with started(self.folder, self._token) as (server, _):  # phones become known
            self._server = server
            async with living(self.phones):
                pass
        async with trio.open_nursery() as nursery:
            for phone in self.phones:
                nursery.start_soon(phone.live)
            for _ in range(self.kills):
                await self._live_and_die()
            await self._live_to_the_end()
            nursery.cancel_scope.cancel()
        history = await self._history()
        found = breaches(history)
        for finding in found:
            print(finding, *_about(history, finding.partition(" ")[0]), sep="\n  ", file=sys.stderr)
        laws = {"lost": command_laws.nothing_is_lost, "doubled": command_laws.nothing_is_done_twice}
        figures = {name: float(len(list(law(history)))) for name, law in laws.items()}
        figures["backward"] = float(len(list(command_laws.no_step_leads_back(history))))
        figures["breaches"] = float(len(found))
        by_fdatasync = float(self.killed_by_fdatasync)
        return {**figures, "accepted": float(len(self.accepted)), "effects": float(len(history.effects)), "at_fdatasync": by_fdatasync}

    async def _live_and_die(self) -> None:
        before: Sequence[str] = ()
        if self._random.random() < 0.5 and shutil.which("strace"):
            when = self._random.randrange(*FDATASYNCS)
            inject = f"inject=fdatasync:signal=SIGKILL:when={when}"
            before = ("strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync", "-e", inject)
        try:
            with started(self.folder, self._token, *before) as (server, process):
                self._server = server
                load_s = self._random.uniform(*LOAD_S) * (10 if before else 1)
                with trio.move_on_after(load_s):
                    await self._load(process)
                self.killed_by_fdatasync += process.poll() is not None
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)  # strace would leave what it follows alone; the group is the server's own
                process.wait()
        except Unmeasured:
            self.killed_by_fdatasync += bool(before)  # it died before it had started
        finally:
            self._server = None

    async def _load(self, process: "subprocess.Popen[str]") -> None:
        """Callers until the server is dead."""
        async with trio.open_nursery() as nursery:
            for _ in range(CALLERS):
                nursery.start_soon(self._call)
            while process.poll() is None:  # noqa: ASYNC110 - its death has no event that Trio knows
                await trio.sleep(0.01)
            nursery.cancel_scope.cancel()

    async def _call(self) -> None:
        while True:
            self._asked += 1
            message_id, phone = f"m{self._asked}", self.phones[self._asked % PHONES]
            with suppress(OSError, trio.BrokenResourceError, trio.TooSlowError):
                async with open_http(self._server.http_port if self._server else 0, self._token) as http:
                    body = sms(message_id, self._asked)
                    status, _ = await http.call("POST", f"/api/devices/{phone.device_id}/send-sms", body)
                    if status == 202:
                        self.accepted.append(message_id)
            await trio.sleep(0.02)

    async def _live_to_the_end(self) -> None:
        with started(self.folder, self._token) as (server, process):
            self._server = server
            try:
                with trio.move_on_after(ENDS_WITHIN_S):
                    while await self._open(server):  # noqa: ASYNC110 - asked now and then
                        await trio.sleep(0.5)
            except (OSError, trio.BrokenResourceError):
                said = (self.folder / "stderr.txt").read_text()[-2000:]
                raise Unmeasured(f"the last life ended early, with {process.poll()}: {said}") from None
            process.send_signal(signal.SIGTERM)
            await trio.to_thread.run_sync(process.wait)
        self._server = None

    async def _open(self, server: Operated) -> bool:
        """Whether anything is under way."""
        async with open_http(server.http_port, self._token) as http:
            for state in ("queued", "dispatched", "accepted"):
                _, told = await http.call("GET", f"/api/commands?state={state}&limit=1")
                if told["items"]:
                    return True
        return False

    async def _history(self) -> CommandHistory:
        config = load_config(self.folder / "config.toml", {})
        commands: dict[str, Command] = {}
        steps: dict[str, Sequence[Step]] = {}
        async with open_database(config.storage, self.folder / "data", Metrics()) as database:
            found = await database.read(lambda connection: kept.search(connection, Scope(), None, (), None, None, 10**9))
            for command in found:
                commands[command.message_id] = command
                steps[command.message_id] = await database.read(partial(kept.steps_of, message_id=command.message_id))
        effects = [effect for phone in self.phones for effect in _effects(phone)]
        return CommandHistory(self.accepted, commands, steps, effects)

    def _url(self) -> str:
        return self._server.url if self._server is not None else "ws://127.0.0.1:9/ws"


def _about(history: CommandHistory, message_id: str) -> list[object]:
    """What is known of a command, for whoever has to find out what happened to it."""
    effects = [effect for effect in history.effects if effect.message_id == message_id]
    return [history.commands.get(message_id), *history.steps.get(message_id, ()), *effects]


def _effects(phone: TimedPhone) -> list[Effect]:
    return [Effect("send_sms", phone.device_id, sent.message_id, sent.sim_slot, sent.at, sent.text, 1) for sent in phone.sent]


def killed(kills: int) -> Figures:
    """Lost, doubled and backward, after so many kills: all of them are to be 0."""
    with tempfile.TemporaryDirectory() as folder:
        return on_the_other_core(Lives(Path(folder), kills).run)


def main() -> int:
    """Kill, and say what was found. 1 when a promise was broken."""
    parser = argparse.ArgumentParser(description="Kill the gateway under load and look at every accepted command.")
    parser.add_argument("--kills", type=int, default=60)
    figures = killed(parser.parse_args().kills)
    print("  ".join(f"{name} {value:g}" for name, value in figures.items()))
    return int(figures["breaches"] > 0 or figures["accepted"] == 0)


if __name__ == "__main__":
    sys.exit(main())
