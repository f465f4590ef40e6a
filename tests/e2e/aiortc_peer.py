"""A peer that is no browser: aiortc, which lives on asyncio and so in a process of its own, and the gateway's binary frames.

    python -m tests.e2e.aiortc_peer ws://127.0.0.1:8080/ws ROOM receiver

It registers as test_client_1, joins, and does what the page `/call` does: whoever was there first offers to who comes, with camera,
microphone and a data channel "chat". It answers each text there, leaves on "goodbye", and then prints one line of JSON: how many frames it
has decoded, and how many other members it has met.
"""

import asyncio
import json
import sys
from collections import Counter
from typing import Any
from uuid import uuid4

from aiortc import RTCConfiguration, RTCDataChannel, RTCIceServer, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import AudioStreamTrack, MediaStreamError, MediaStreamTrack, VideoStreamTrack
from aiortc.sdp import candidate_from_sdp
from websockets.asyncio.client import ClientConnection, connect

from protocol.frame import FrameType, decode_frame, encode_frame
from protocol.payload import PayloadKind, read_payload, write_payload

CLIENT_ID, TOKEN = "test_client_1", "test_token_1"


class Peer:
    """One member of one room."""

    def __init__(self, socket: ClientConnection, room_id: str) -> None:
        self.decoded: Counter[str] = Counter()
        self.has_left = asyncio.Event()
        self._socket = socket
        self._room_id = room_id
        self._ice_servers: list[RTCIceServer] = []
        self._others: dict[str, RTCPeerConnection] = {}
        self._tasks: list[asyncio.Task[None]] = []

    async def come_in(self, role: str) -> None:
        """REGISTER and WEBRTC_ROOM_JOIN, in CBOR."""
        await self._say(FrameType.REGISTER, {"client_id": CLIENT_ID, "auth_token": TOKEN})
        await self._hear_until(FrameType.REGISTER_ACK)
        await self._say(FrameType.WEBRTC_ROOM_JOIN, {"client_id": CLIENT_ID, "room_id": self._room_id, "role": role})
        joined = await self._hear_until(FrameType.WEBRTC_ROOM_JOIN_ACK)
        self._ice_servers = [RTCIceServer(**server) for server in joined["ice_servers"]]

    async def talk(self) -> None:
        """Do what others ask for, until one of them says goodbye."""
        hearing = asyncio.create_task(self._hear_on())
        leaving = asyncio.create_task(self.has_left.wait())
        await asyncio.wait([hearing, leaving], return_when=asyncio.FIRST_COMPLETED)
        if hearing.done():
            hearing.result()
        hearing.cancel()
        await self._say(FrameType.WEBRTC_ROOM_LEAVE, {"client_id": CLIENT_ID, "room_id": self._room_id, "reason": "done"})
        for connection in self._others.values():
            await connection.close()
        print(json.dumps({**self.decoded, "others": len(self._others)}), flush=True)

    async def _hear_on(self) -> None:
        while True:
            frame_type, payload = await self._hear()
            match frame_type:
                case FrameType.ROOM_EVENT if payload["event"] == "member_joined":
                    await self._offer(payload["client_id"])
                case FrameType.SIGNAL_OFFER:
                    await self._answer(payload["from"], payload["sdp"])
                case FrameType.SIGNAL_ANSWER:
                    answer = RTCSessionDescription(sdp=payload["sdp"], type="answer")
                    await self._others[payload["from"]].setRemoteDescription(answer)
                case FrameType.SIGNAL_ICE_CANDIDATE if payload["candidate"] and payload["candidate"]["candidate"]:
                    told = payload["candidate"]
                    candidate = candidate_from_sdp(told["candidate"].partition(":")[2])
                    candidate.sdpMid, candidate.sdpMLineIndex = told["sdpMid"], told["sdpMLineIndex"]
                    await self._others[payload["from"]].addIceCandidate(candidate)
                case FrameType.ERROR:
                    raise RuntimeError(payload)
                case _:
                    pass

    def _meet(self, client_id: str) -> RTCPeerConnection:
        connection = RTCPeerConnection(RTCConfiguration(iceServers=self._ice_servers))
        self._others[client_id] = connection
        for track in (VideoStreamTrack(), AudioStreamTrack()):
            connection.addTrack(track)
        connection.on("track", lambda track: self._tasks.append(asyncio.create_task(self._count(track))))
        connection.on("datachannel", self._listen)
        return connection

    async def _offer(self, client_id: str) -> None:
        connection = self._meet(client_id)
        self._listen(connection.createDataChannel("chat"))
        await connection.setLocalDescription(await connection.createOffer())
        await self._describe(FrameType.SIGNAL_OFFER, client_id, connection)

    async def _answer(self, client_id: str, sdp: str) -> None:
        connection = self._meet(client_id)
        await connection.setRemoteDescription(RTCSessionDescription(sdp=sdp, type="offer"))
        await connection.setLocalDescription(await connection.createAnswer())
        await self._describe(FrameType.SIGNAL_ANSWER, client_id, connection)

    async def _describe(self, frame_type: FrameType, client_id: str, connection: RTCPeerConnection) -> None:
        """With all its candidates: aiortc gathers them before it describes itself."""
        await self._say(frame_type, {"room_id": self._room_id, "to": client_id, "sdp": connection.localDescription.sdp})

    def _listen(self, channel: RTCDataChannel) -> None:
        def hear(text: str) -> None:
            channel.send(f"heard: {text}")
            if text == "goodbye":
                self.has_left.set()

        channel.on("message", hear)

    async def _count(self, track: MediaStreamTrack) -> None:
        """Decode whatever comes."""
        while True:
            try:
                await track.recv()
            except MediaStreamError:
                return
            self.decoded[track.kind] += 1

    async def _say(self, frame_type: FrameType, payload: dict[str, Any]) -> None:
        written = write_payload(PayloadKind.CBOR, {"version": "1.0.0", **payload})
        await self._socket.send(encode_frame(frame_type, uuid4().bytes, PayloadKind.CBOR, written))

    async def _hear(self) -> tuple[int, Any]:
        message = await self._socket.recv()
        assert isinstance(message, bytes)
        frame = decode_frame(message)
        assert frame.payload_kind == PayloadKind.CBOR
        return frame.type, read_payload(frame.payload_kind, frame.payload)

    async def _hear_until(self, wanted: FrameType) -> Any:
        frame_type, payload = await self._hear()
        if frame_type != wanted or payload["status"] != 200:
            raise RuntimeError(f"{frame_type}: {payload}")
        return payload


async def main(url: str, room_id: str, role: str) -> None:
    """Come, talk and leave."""
    async with connect(url) as socket:
        peer = Peer(socket, room_id)
        await peer.come_in(role)
        print("in the room", flush=True)
        await peer.talk()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
