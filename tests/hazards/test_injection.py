"""What strangers and clients write themselves stands on one line of the log, names no metric, and tells no secret (H30, H02)."""

import json
from contextlib import suppress
from itertools import product
from pathlib import Path
from random import Random
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from protocol.frame import FrameType, PayloadKind, encode_frame
from signal_gateway.config import Config
from signal_gateway.observe.logs import LOG_FILE, LoggingSettings, logging_running
from signal_gateway.services.authentication import AuthSettings
from signal_gateway.services.limits import LimitsSettings
from signal_gateway.testing.client import LinkClosed, NoLink
from signal_gateway.testing.world import World, open_world
from signal_gateway.websocket.admission import SecuritySettings
from signal_gateway.websocket.link import Link
from tests.hazards.upgrades import head, status_of
from tests.websocket.client_frames import close
from tests.websocket.talk import ask, closing, connect, frame, hear, phone_headers
from tests.websocket.test_links import RawLink

PHONE_NUMBER = "+905551234567"
TEXT = "canary text of an SMS"
IMEI, IMSI, ICCID = "490154203237518", "286011234567890", "8990011234567890123"
TOKENS = ("canary-token-of-agent", "canary-key-of-enrolment", "sgk_abcdefghijkl_canarycanarycanary", "canary-wrong-token")
CANARIES = (PHONE_NUMBER[1:], TEXT, IMEI, IMSI, ICCID, *TOKENS)
FORGED = '{"level":"error","category":"auth","event":"forged"}'
BREAKS = f"\r\n{FORGED}\r\n\x1b[2J\x1b[31m\x85\u2028{FORGED}\u2029\x00\x7f\x9b"
LONG = "long" * 5000
POISONS = {
    "breaks": BREAKS,
    "long": LONG,
    "unicode": "\u202egnol\u202c \U0001f600 \ufeff\u0000 e\u0301",
    "braces": '"},{"a":%s${jndi:x}{0}',
}
LINE_CHARS_MAX = 20_000
CONFIG = Config(
    auth=AuthSettings(api_keys=(f"test_client_1:{TOKENS[0]}",), enrolment_keys=(f"demo:{TOKENS[1]}",), max_failed_per_id_per_minute=0),
    limits=LimitsSettings(data_per_s=0, control_per_min=0, signal_per_min=0, frames_per_s=0),
    security=SecuritySettings(max_malformed_per_minute=0, max_failed_auth_per_ip_per_minute=0),
)


def lines_of(folder: Path) -> list[dict[str, Any]]:
    """Every line, each one JSON object, as any reader of lines splits them."""
    text = (folder / LOG_FILE).read_text()
    assert text.endswith("\n")
    lines = text.split("\n")[:-1]
    assert lines == text.splitlines()  # which splits at what some readers take for a line's end: U+0085, U+2028…
    assert all(len(line) <= LINE_CHARS_MAX or '"exception":' in line for line in lines)
    return [json.loads(line) for line in lines]


def told(folder: Path, world: World) -> str:
    """All that was logged and counted."""
    return (folder / LOG_FILE).read_text() + world.metrics.text().decode()


def in_header(text: str) -> bytes:
    """As far as a header can hold it: h11 refuses control characters, bytes beyond ASCII it takes."""
    return "".join(character for character in text if character.isprintable()).encode()[:3000]


async def say_in_the_request(world: World, poison: str) -> None:
    """Whatever a stranger writes before it has a link."""
    value = in_header(poison)
    word = value.replace(b" ", b"_").replace(b'"', b"'")[:500] or b"x"
    ascii_word = bytes(byte for byte in word if 0x21 <= byte < 0x7F) or b"x"
    for lines, options in (
        ((b"Origin: " + value,), {}),
        ((b"User-Agent: " + value, b"X-Forwarded-For: " + value, b"Cookie: " + value), {}),
        ((b"Sec-WebSocket-Protocol: " + ascii_word,), {}),
        ((b"Authorization: Bearer " + value,), {}),
        ((b"Authorization: Bearer " + value, b"Queue-Name: " + value, b'Device-Info: {"device_id":"d"}'), {}),
        ((b"Device-Info: " + value,), {"target": b"/ws?api_key=" + ascii_word}),
        ((), {"target": b"/" + ascii_word}),
        ((), {"target": b"/ws?" + ascii_word}),
        ((), {"host": ascii_word}),
    ):
        assert await status_of(world, head(*lines, **options)) in (101, 400, 401, 403, 404, 501)
    info = json.dumps(
        {"device_id": "canary-phone", "model": poison, "manufacturer": poison, "sitename": poison, "imei": IMEI, poison: poison}
    )
    lines = (f"Authorization: Bearer {TOKENS[1]}".encode(), b"Queue-Name: " + value, b"Device-Info: " + info.encode())
    assert await status_of(world, head(*lines)) in (101, 400, 431)


async def say_as_an_agent(world: World, poison: str) -> None:
    """Every field of what an agent says, before and after it is known."""
    for message in (
        {"client_id": poison, "auth_token": TOKENS[3]},
        {"client_id": "unit-9", "auth_token": poison + TOKENS[3]},
        {"client_id": "unit-9", "auth_token": TOKENS[3], "version": poison},
    ):
        async with world.dial() as agent:
            with suppress(LinkClosed):
                await ask(agent, FrameType.CONNECT, message)
                await closing(agent)
    async with world.dial() as agent:
        assert (await connect(agent, token=TOKENS[0]))["status"] == 200
        register = {"version": "1.0.0", "client_id": "test_client_1", "auth_token": TOKENS[0], "metadata": {poison[:500]: poison[:2000]}}
        await ask(agent, FrameType.REGISTER, {**register, "capabilities": [poison[:64]], "room_id": poison[:128]})
        await ask(agent, FrameType.UNREGISTER, {"version": poison, "client_id": poison, "auth_token": poison + TOKENS[3]})
        await agent.send(encode_frame(FrameType.REPORT, bytes(16), PayloadKind.TEXT, poison.encode()[:60_000]))
        await hear(agent)
        await agent.send(frame(FrameType.DISCONNECT, {"version": "1.0.0", "reason": poison[:256]}))
        await closing(agent)


async def say_as_a_phone(world: World, poison: str) -> None:
    """Every field of what a phone says, and the reason with which it closes."""
    async with world.dial("/ws", phone_headers("canary-phone", TOKENS[1])) as phone:
        await hear(phone)
        sms = {"phone_number": PHONE_NUMBER, "message": TEXT + poison, "direction": "received", "sender": poison, poison[:100]: poison}
        sims = [{"slot_index": 0, "imei": IMEI, "imsi": IMSI, "iccid": ICCID, "carrier_name": poison[:100], "phone_number": PHONE_NUMBER}]
        for message in (
            {"type": "sms_message", "request_id": "a", "data": sms},
            {
                "type": "heartbeat",
                "request_id": "b",
                "data": {"sim_cards": sims, "network_type": poison[:100], "battery_status": poison[:100]},
            },
            {"type": "ussd_response", "request_id": "c", "data": {"message_id": "m", "response": TEXT + poison, "status": "x"}},
            {"type": poison, "request_id": "d", "data": {}},
            {"type": "alarm", "request_id": poison, "data": {}},
            {"type": "alarm", "request_id": "e", "data": {"alarm_type": poison}},
        ):
            await phone.send(json.dumps(message))
            await hear(phone)
        await phone.send(poison)
        await hear(phone)
    raw = RawLink(world.connect())
    await raw.open(head(*(f"{name}: {value}".encode() for name, value in phone_headers("canary-phone", TOKENS[1]).items())))
    await raw.stream.send_all(close(4999, poison.encode()[:120].decode("utf-8", "ignore")))
    await raw.close_code()
    await trio.aclose_forcefully(raw.stream)


@pytest.mark.slow
@pytest.mark.parametrize("level", ["debug", "info"])
@pytest.mark.parametrize("poison", POISONS.values(), ids=POISONS.keys())
async def test_no_field_of_a_stranger_or_a_client_makes_a_line_of_its_own_or_shows_what_is_secret(
    autojump_clock: MockClock, tmp_path: Path, level: Any, poison: str
):
    async with open_world(CONFIG) as world:
        settings = LoggingSettings(level=level, console_output=False)
        with logging_running(settings, tmp_path, world.metrics, secrets=CONFIG.secrets()):
            await say_in_the_request(world, poison)
            await say_as_an_agent(world, poison)
            await say_as_a_phone(world, poison)
            await trio.sleep(5)
    lines = lines_of(tmp_path)
    assert len(lines) >= 9
    assert not [line for line in lines if line["event"] == "forged"]
    assert {line["category"] for line in lines} <= {"websocket", "auth", "device", "storage", "server", "library"}
    shown = told(tmp_path, world)
    assert not [
        character for character in shown if (ord(character) < 0x20 and character != "\n") or character in "\x7f\x85\x9b\u2028\u2029"
    ]
    assert not [canary for canary in CANARIES if canary in shown]
    assert not any(world.metrics.errors.values.values())


@pytest.mark.slow
async def test_a_fault_of_ours_shows_no_text_number_or_key_of_the_message_in_which_it_was_found(
    autojump_clock: MockClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A traceback is logged, whole; what its exception quotes of the message must not break its line or show numbers and keys."""

    def fail(link: Link, message: Any, question: Any) -> None:
        raise ValueError(f"cannot file {message.raw} of {PHONE_NUMBER} with {TOKENS[2]}{BREAKS}{LONG}")

    async with open_world(CONFIG) as world:
        with logging_running(LoggingSettings(console_output=False), tmp_path, world.metrics, secrets=CONFIG.secrets()):
            async with world.dial("/ws", phone_headers("canary-phone", TOKENS[1])) as phone:
                await hear(phone)
                link = world.gateway.hub.link_of("canary-phone")
                monkeypatch.setattr(link, "_ears", type(link._ears)({}, dict.fromkeys(link._ears.after, fail)))  # type: ignore[union-attr]
                await phone.send(json.dumps({"type": "alarm", "data": {"alarm_type": "offline", "message": PHONE_NUMBER, "imei": IMEI}}))
                assert await closing(phone) == 1011
    (failed,) = [line for line in lines_of(tmp_path) if line["event"] == "a handler failed"]
    assert "ValueError: cannot file" in failed["exception"]
    assert "\n" in failed["exception"]  # a traceback has lines, in one line of the log
    assert not [canary for canary in (PHONE_NUMBER[1:], IMEI, *TOKENS) if canary in told(tmp_path, world)]


def labels_of(world: World) -> set[str]:
    """Every series of the metrics page, without its value."""
    return {line.rpartition(" ")[0] for line in world.metrics.text().decode().splitlines() if not line.startswith("#")}


@pytest.mark.slow
async def test_ten_thousand_random_ids_make_no_metric(autojump_clock: MockClock):
    """9,000 as types, ids and codes on a link; 1,000 as paths, origins, subprotocols and ids of devices before one."""
    random = Random(30)

    def word() -> str:
        return "".join(random.choices("abcdefghijklmnopqrstuvwxyz0123456789-_.", k=random.randint(1, 40)))

    async def say(world: World, count: int) -> None:
        async with world.dial("/ws", phone_headers("phone-1", TOKENS[1])) as phone:
            await hear(phone)
            for frame_type, kind in product(FrameType, (2, 3, 5)):  # every word of ours is counted before
                await phone.send(encode_frame(frame_type, random.randbytes(16), kind, b"{}" if kind == 2 else b"\xa0"))
                await hear(phone)
            for _ in range(count):
                await phone.send(json.dumps({"type": word(), "request_id": word(), "data": {}}))
                await phone.send(json.dumps({"type": "heartbeat", "request_id": word(), "data": {word(): word()}}))
                payload = random.choice((b"{}", word().encode()))
                await phone.send(encode_frame(random.choice(list(FrameType)), random.randbytes(16), random.choice((2, 3, 5)), payload))
                for _ in range(3):
                    await hear(phone)

    async def ask_for_a_link(world: World, count: int) -> None:
        for _ in range(count):
            name = word().encode()
            lines = random.choice(
                ([b"Origin: http://" + name], [b"Sec-WebSocket-Protocol: " + name], [b"X-" + name + b": y", b"Authorization: " + name], [])
            )
            await status_of(world, head(*lines, target=random.choice((b"/" + name, b"/ws?" + name, b"/ws"))))
        with suppress(NoLink):
            for _ in range(20):
                async with world.dial("/ws", phone_headers(word(), word())):
                    pass

    async with open_world(CONFIG) as world:
        await say(world, 300)
        await ask_for_a_link(world, 200)
        await trio.sleep(10)
        before = labels_of(world)
        await say(world, 3000)
        await ask_for_a_link(world, 1000)
        await trio.sleep(10)
        assert labels_of(world) - before == set()
        assert len(before) < 400
