"""Frames from a terminal: explained, built, sent."""

import io
import json
from contextlib import suppress
from functools import partial

import pytest
import trio
from trio_websocket import ConnectionClosed, serve_websocket

from protocol.frame import FrameType, decode_frame, encode_frame
from protocol.payload import PayloadKind, read_cbor, write_payload
from signal_gateway import cli_frames
from signal_gateway.cli import main
from signal_gateway.testing.client import LinkClosed, NoLink, open_client

UUID = "00000000-0000-0000-0000-000000000001"
BEAT = encode_frame(FrameType.HEARTBEAT, bytes(15) + b"\x01", PayloadKind.JSON, b'{"timestamp":1}')
ERROR = encode_frame(FrameType.ERROR, bytes(16), PayloadKind.JSON, b'{"status":401}')


def test_a_right_frame_is_explained_field_by_field(capsys):
    assert main(["frame", "inspect", BEAT.hex()]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["offset", "bytes", "hex", "field", "meaning"]
    assert [line.split()[0] for line in lines[1:7]] == ["0", "1", "2", "18", "19", "21"]
    assert lines[2].split()[-1] == "HEARTBEAT"
    assert lines[3].split()[-1] == UUID
    assert '    "timestamp": 1' in lines


@pytest.mark.parametrize(
    "spelling", [BEAT.hex(" "), BEAT.hex().upper(), "0x" + BEAT.hex(), BEAT.hex(":"), " ".join(f"0x{byte:02x}," for byte in BEAT)]
)
def test_hex_may_have_spaces_colons_commas_and_0x(capsys, spelling):
    assert main(["frame", "inspect", *spelling.split(" ")]) == 0
    assert "HEARTBEAT" in capsys.readouterr().out


def test_hex_may_come_from_stdin(capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO(BEAT.hex("\n")))
    assert main(["frame", "inspect", "-"]) == 0
    assert "HEARTBEAT" in capsys.readouterr().out


def test_a_faulty_frame_is_explained_too_and_exits_1(capsys):
    wrong = BEAT[:19] + b"\x00\x18" + BEAT[21:]
    assert main(["frame", "inspect", wrong.hex()]) == 1
    assert "the header states a payload of 24 bytes, the message has 15" in capsys.readouterr().out.partition("faults")[2]


@pytest.mark.parametrize(("text", "why"), [("abc", "3 hex digits are not whole bytes"), ("zz", "'z' is no hex digit")])
def test_what_is_not_hex_is_an_error(capsys, text, why):
    assert main(["frame", "inspect", text]) == 2
    assert capsys.readouterr().err == f"error: {why}\n"


@pytest.mark.parametrize("name", ["HEARTBEAT", "heartbeat", "0x04", "4"])
def test_a_frame_is_built_by_name_or_code(capsys, name):
    assert main(["frame", "build", name, "--json", '{"timestamp": 1}', "--uuid", UUID]) == 0
    assert capsys.readouterr().out == BEAT.hex() + "\n"


def test_what_is_built_in_cbor_with_a_fresh_uuid_can_be_read_back(capsys):
    main(["frame", "build", "webrtc-room-create", "--json", '{"role": "sender"}', "--payload", "cbor"])
    frame = decode_frame(bytes.fromhex(capsys.readouterr().out))
    assert (frame.type, frame.payload_kind, read_cbor(frame.payload)) == (0x30, PayloadKind.CBOR, {"role": "sender"})
    assert (frame.uuid[6] >> 4, frame.uuid[8] >> 6) == (4, 2)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["NOPE"], "'NOPE' is no frame type"),
        (["0x7e"], "'0x7e' is no frame type"),
        (["heartbeat", "--uuid", "1"], "'1' is no UUID"),
        (["heartbeat", "--json", '{"a":1,"a":2}'], "--json: "),
        (["heartbeat", "--json", "[" * 40], "--json: "),
        (["heartbeat", "--json", json.dumps("x" * 65_536)], "--json: "),
    ],
)
def test_what_cannot_be_built_is_an_error(capsys, arguments, why):
    assert main(["frame", "build", *arguments]) == 2
    assert capsys.readouterr().err.startswith(f"error: {why}")


# Sending


@pytest.fixture
async def server(nursery):
    """A server that answers a HEARTBEAT with its ACK, a REGISTER with an ERROR, a DISCONNECT by closing, text by itself; else nothing."""
    heads = []

    async def answer(request):
        heads.append(dict(request.headers))
        connection = await request.accept()
        while True:
            message = await connection.get_message()
            if isinstance(message, str) or message[1] == FrameType.WEBRTC_ROOM_JOIN_ACK:
                await connection.send_message(message)
            elif message[1] == FrameType.HEARTBEAT:
                await connection.send_message(bytes([0xAA, FrameType.HEARTBEAT_ACK]) + message[2:])
            elif message[1] == FrameType.REGISTER:
                await connection.send_message(ERROR)
            elif message[1] == FrameType.DISCONNECT:
                await connection.aclose(4501, "unauthorised")

    async def gate(request):
        if request.path == "/closed":
            await request.reject(403, body=b"not here")
            return
        with suppress(ConnectionClosed):
            await answer(request)

    running = await nursery.start(partial(serve_websocket, gate, "127.0.0.1", 0, ssl_context=None))
    return f"ws://127.0.0.1:{running.port}", heads


async def test_answers_are_explained_in_their_order(server, capsys):
    url, heads = server
    assert await cli_frames._converse(f"{url}/ws", {"X-Test": "yes"}, [BEAT, BEAT], 1.0)
    assert capsys.readouterr().out.count("HEARTBEAT_ACK") == 2
    assert (b"x-test", b"yes") in heads[0].items()


async def test_an_error_frame_is_shown_and_means_no(server, capsys):
    url, _ = server
    assert not await cli_frames._converse(url, {}, [bytes([0xAA, FrameType.REGISTER]) + BEAT[2:], BEAT], 1.0)
    out = capsys.readouterr().out
    assert '"status": 401' in out
    assert "HEARTBEAT_ACK" in out


@pytest.mark.parametrize("kind", [PayloadKind.JSON, PayloadKind.CBOR])
async def test_an_answer_that_refuses_means_no_and_one_that_grants_yes(server, capsys, kind):
    url, _ = server
    answers = {
        status: encode_frame(FrameType.WEBRTC_ROOM_JOIN_ACK, bytes(16), kind, write_payload(kind, {"status": status}))
        for status in (200, 409)
    }
    for status, answer in answers.items():
        assert await cli_frames._converse(url, {}, [answer], 1.0) == (status == 200)
        assert f'"status": {status}' in capsys.readouterr().out


async def test_a_close_is_told_with_its_code_and_reason(server, capsys):
    url, _ = server
    assert not await cli_frames._converse(url, {}, [bytes([0xAA, FrameType.DISCONNECT]) + BEAT[2:]], 1.0)
    assert capsys.readouterr().out == "the link was closed: 4501 unauthorised\n"


async def test_no_answer_is_told_after_the_deadline(server, capsys):
    url, _ = server
    assert not await cli_frames._converse(url, {}, [ERROR], 0.05)
    assert capsys.readouterr().out == "no answer within 0.05 s\n"


async def test_the_client_sends_and_hears_text_and_bytes(server):
    url, _ = server
    async with open_client(url) as client:
        await client.send("hello")
        await client.send(BEAT)
        assert await client.receive(1) == "hello"
        assert isinstance(await client.receive(1), bytes)
        with pytest.raises(trio.TooSlowError):
            await client.receive(0.01)


async def test_what_is_raised_while_a_link_is_open_comes_out_as_it_is(server):
    """No group of exceptions around it, though a nursery runs below."""
    url, _ = server
    with pytest.raises(KeyError):
        async with open_client(url):
            raise KeyError


async def test_a_closed_link_is_told_to_whoever_sends_or_listens(server):
    url, _ = server
    async with open_client(url) as client:
        await client.send(bytes([0xAA, FrameType.DISCONNECT]) + BEAT[2:])
        with pytest.raises(LinkClosed) as closed:
            await client.receive(1)
        assert (closed.value.code, closed.value.reason) == (4501, "unauthorised")
        with pytest.raises(LinkClosed):
            await client.send("more")


async def test_a_refused_upgrade_is_told_with_its_status_and_never_with_its_query(server):
    url, _ = server
    with pytest.raises(NoLink) as refused:
        async with open_client(f"{url}/closed"):
            pass
    assert refused.value.status == 403
    assert str(refused.value).endswith("/closed refused: 403 not here")
    with pytest.raises(NoLink) as gone:
        async with open_client("ws://127.0.0.1:1/ws?api_key=hush"):
            pass
    assert "hush" not in str(gone.value)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["http://127.0.0.1/ws", "heartbeat"], "'http://127.0.0.1/ws' is no URL of a WebSocket: it begins with ws:// or wss://"),
        (["ws://127.0.0.1:1/ws"], "there is nothing to send: name a TYPE, or give --hex"),
        (["ws://127.0.0.1:1/ws", "heartbeat", "--header", "x"], "--header wants NAME:VALUE"),
    ],
)
def test_what_cannot_be_sent_is_an_error(capsys, arguments, why):
    assert main(["frame", "send", *arguments]) == 2
    assert capsys.readouterr().err == f"error: {why}\n"


def test_a_server_that_is_not_there_is_one_line(capsys):
    assert main(["frame", "send", "ws://127.0.0.1:1/ws", "heartbeat"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ws://127.0.0.1:1/ws cannot be reached: ")
    assert err.count("\n") == 1
