// A client of the signalling gateway for browsers: one WebSocket that comes back by itself, rooms, and signals between their members.
// No dependency, no build step. The protocol is described in docs/protocol.md; this speaks its JSON form.
//
//   const gateway = new SignalGateway({ url: "ws://127.0.0.1:8080/ws", clientId: "guest-1", token: "..." });
//   gateway.addEventListener("signal_offer", (event) => ...event.detail...);
//   await gateway.open();
//   const room = await gateway.sit(roomId, "receiver");

const VERSION = "1.0.0";
const REQUEST_MS = 10_000;
const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 30_000;
const BEAT_MS = 25_000;
const FOR_GOOD = [1000, 1002, 1007, 1009, 4003]; // and all from 4500 to 4999: whoever is told one of these does not come back by itself
const LOST = 1006;
const ALREADY_IN = "Client already in room";
const DOUBT_MS = 20_000;

/** A request that was refused: `status` is HTTP-like, `reason` a stable word where the gateway gave one. */
export class Refused extends Error {
  constructor(data) {
    super(data.message);
    this.status = data.status;
    this.reason = data.reason;
  }

  /** Whether the same request may be granted later: the server, not the request, was the cause. */
  get isForNow() {
    return this.status >= 500 || this.status === 429;
  }
}

/**
 * One client's link. Events: `state` (detail: "connecting", "open", "waiting", "closed"), and one of its lower-case name for each message that
 * the gateway says unasked: `signal_offer`, `signal_answer`, `signal_ice_candidate`, `room_event`, `error`.
 *
 * Whoever has come into a room by `sit` is brought back to it after each loss of the link, and when a signal is refused because there is no such
 * room or seat, and is told by `seat` events, whose detail is
 * { room_id, state }: "away" (the link is lost, or the gateway cannot take us back yet: `refusal`), "back" (`joined`, the answer to JOIN: whatever
 * was signalled before holds no more, the others have been told that we returned) or "gone" (`refusal`: the room is over, or not for us any more).
 */
export class SignalGateway extends EventTarget {
  #url;
  #clientId;
  #token;
  #socket = null;
  #asked = new Map();
  #tries = 0;
  #isWanted = false;
  #timers = new Set();
  #seats = new Map();
  #sitting = new Map();

  constructor({ url, clientId, token }) {
    super();
    this.#url = url;
    this.#clientId = clientId;
    this.#token = token;
    this.state = "closed";
    this.closeCode = null;
    this.refusal = null;
  }

  get clientId() {
    return this.#clientId;
  }

  /** Connect and register. Rejects with Refused when the gateway does not want this client; goes on trying when it cannot be reached. */
  open() {
    this.#isWanted = true;
    return new Promise((resolve, reject) => {
      const settle = (event) => {
        if (event.detail === "open") resolve(this);
        else if (event.detail === "closed") reject(this.refusal ?? new Error("closed"));
        else return;
        this.removeEventListener("state", settle);
      };
      this.addEventListener("state", settle);
      this.#connect();
    });
  }

  /** Say goodbye, and do not come back. */
  close() {
    this.#isWanted = false;
    this.#seats.clear();
    this.#socket?.close(1000);
    this.#becomes("closed");
  }

  /** Send a request and wait for its answer. */
  ask(name, data) {
    const requestId = crypto.randomUUID();
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#asked.delete(requestId);
        reject(new Error(`no answer to ${name}`));
      }, REQUEST_MS);
      this.#asked.set(requestId, { resolve, reject, timer });
      if (!this.#send(name, { version: VERSION, ...data }, requestId)) this.#answer(requestId, new Error("not connected"));
    });
  }

  create(offerSdp = null, metadata = null) {
    return this.ask("webrtc_room_create", { client_id: this.#clientId, role: "sender", offer_sdp: offerSdp, metadata });
  }

  join(roomId, role) {
    return this.ask("webrtc_room_join", { client_id: this.#clientId, room_id: roomId, role, offer_sdp: null });
  }

  /** Come into a room and stay in it: in the other role where this one is not to be had, and again whenever the link has been lost. */
  async sit(roomId, role) {
    const joined = await this.#joinAs(roomId, role);
    this.#seats.set(roomId, role);
    return joined;
  }

  leave(roomId, reason = "left") {
    this.#seats.delete(roomId);
    return this.ask("webrtc_room_leave", { client_id: this.#clientId, room_id: roomId, reason });
  }

  /** Signal to one member, or without `to` to all others. Not answered; what reaches nobody comes back as an `error` event. */
  signal(name, roomId, to, body) {
    return this.#send(name, { version: VERSION, room_id: roomId, ...(to ? { to } : {}), ...body });
  }

  #send(name, data, requestId) {
    if (this.#socket?.readyState !== WebSocket.OPEN) return false;
    this.#socket.send(JSON.stringify({ type: name, ...(requestId ? { request_id: requestId } : {}), data }));
    return true;
  }

  #connect() {
    this.#becomes("connecting");
    const socket = new WebSocket(this.#url);
    this.#socket = socket;
    socket.onopen = () => this.#register(socket);
    socket.onmessage = (event) => this.#hear(JSON.parse(event.data));
    socket.onclose = (event) => this.#lost(socket, event.code);
  }

  async #register(socket) {
    try {
      const asks = { client_id: this.#clientId, auth_token: this.#token, capabilities: ["websocket", "webrtc"] };
      await this.ask("register", { ...asks, metadata: { platform: "browser", version: VERSION } });
    } catch (error) {
      if (error instanceof Refused) {
        this.refusal = error;
        this.#isWanted = error.isForNow;
      }
      this.#drop(socket);
      return;
    }
    this.#tries = 0;
    this.refusal = null;
    this.#beat(socket);
    this.#becomes("open");
    for (const roomId of this.#seats.keys()) this.#sitAgain(roomId);
  }

  /** Once at a time for each room and link. */
  async #sitAgain(roomId) {
    const socket = this.#socket;
    if (this.#sitting.get(roomId) === socket) return;
    this.#sitting.set(roomId, socket);
    await this.#takeSeat(roomId, socket);
    if (this.#sitting.get(roomId) === socket) this.#sitting.delete(roomId);
  }

  /** Nobody can know whether the seat was kept: JOIN takes it again, or a new one, or says that there is none. */
  async #takeSeat(roomId, socket) {
    for (let tries = 0; ; tries++) {
      let refusal;
      try {
        const joined = await this.#joinAs(roomId, this.#seats.get(roomId));
        if (this.#seats.has(roomId)) this.#tellSeat(roomId, "back", { joined });
        else this.leave(roomId).catch(() => {}); // it was given up, or taken away, while this was asked for
        return;
      } catch (error) {
        refusal = error;
      }
      if (this.#socket !== socket || !this.#seats.has(roomId)) return; // the next link does it, or it was given up
      if (!(refusal instanceof Refused)) {
        this.#drop(socket); // not answered: nobody knows on which side of the door we are, but a new link makes it clear
        return;
      }
      if (refusal.message === ALREADY_IN) return; // by this very link: nothing was lost
      if (!refusal.isForNow) {
        this.#seats.delete(roomId);
        this.#tellSeat(roomId, "gone", { refusal });
        return;
      }
      this.#tellSeat(roomId, "away", { refusal });
      await new Promise((resolve) => setTimeout(resolve, waitMs(tries)));
      if (this.#socket !== socket || !this.#seats.has(roomId)) return;
    }
  }

  /** In the other role where this one is not to be had: another one sends, or one who receives was made the sender. */
  async #joinAs(roomId, role) {
    try {
      return await this.join(roomId, role);
    } catch (error) {
      if (error.status !== 400) throw error;
      return this.join(roomId, role === "sender" ? "receiver" : "sender");
    }
  }

  #tellSeat(roomId, state, more) {
    this.dispatchEvent(new CustomEvent("seat", { detail: { room_id: roomId, state, ...more } }));
  }

  #beat(socket) {
    const beats = setInterval(() => {
      if (this.#socket === socket) this.#send("heartbeat", { timestamp: Date.now() });
      else clearInterval(beats);
    }, BEAT_MS);
    this.#timers.add(beats);
  }

  #hear(message) {
    const requestId = message.request_id ?? message.data?.request_id;
    if (requestId && this.#asked.has(requestId)) {
      const isRefused = message.type === "error" || (message.data?.status ?? 200) >= 400;
      this.#answer(requestId, isRefused ? new Refused(message.data) : message.data);
      return;
    }
    if (message.type === "room_event" && this.#endsStay(message.data)) this.#seats.delete(message.data.room_id);
    this.dispatchEvent(new CustomEvent(message.type, { detail: message.data }));
    const lacksRoom = message.type === "error" && message.data.reason === "room_not_found"; // of a signal: it does not say for which room
    if (lacksRoom) for (const roomId of this.#seats.keys()) this.#sitAgain(roomId);
  }

  /** Nobody is told of their own leaving but who was taken out: coming back is for them to decide. */
  #endsStay({ event, client_id: clientId }) {
    return event === "room_terminated" || (event === "member_left" && clientId === this.#clientId);
  }

  #answer(requestId, result) {
    const asked = this.#asked.get(requestId);
    this.#asked.delete(requestId);
    clearTimeout(asked.timer);
    if (result instanceof Error) asked.reject(result);
    else asked.resolve(result);
  }

  /** End a link that is of no use, as if it had been lost: how the server takes leave of it then says nothing. */
  #drop(socket) {
    socket.close();
    this.#lost(socket, LOST);
  }

  #lost(socket, code) {
    if (this.#socket !== socket) return;
    this.#socket = null;
    this.closeCode = code;
    this.#timers.forEach(clearInterval);
    this.#timers.clear();
    for (const requestId of [...this.#asked.keys()]) this.#answer(requestId, new Error("the link was lost"));
    if (!this.#isWanted || (code >= 4500 && code <= 4999) || FOR_GOOD.includes(code)) {
      this.#becomes("closed");
      return;
    }
    this.#becomes("waiting");
    for (const roomId of this.#seats.keys()) this.#tellSeat(roomId, "away");
    setTimeout(() => this.#isWanted && this.#connect(), waitMs(this.#tries++));
  }

  #becomes(state) {
    if (this.state === state) return;
    this.state = state;
    this.dispatchEvent(new CustomEvent("state", { detail: state }));
  }
}

/** How long to wait before the next try. Full jitter: a fleet that lost its server at one moment does not come back in one. */
function waitMs(tries) {
  return FIRST_WAIT_MS / 2 + Math.random() * Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** tries);
}

/** Of an SDP. Each connection has a key of its own: another fingerprint means another connection. */
function fingerprint(description) {
  return description?.sdp.match(/^a=fingerprint:(.*)$/im)?.[1].trim();
}

/** Whether what comes in from a peer is of another connection than the one that we have with it. */
function isAnother({ connection }, sdp) {
  const known = connection.currentRemoteDescription;
  return known !== null && fingerprint(known) !== fingerprint({ sdp });
}

/** Whether a connection works, as far as one knows at this moment. */
function isWell({ connection, channel }) {
  return connection.connectionState === "connected" && connection.signalingState === "stable" && channel?.readyState === "open";
}

/**
 * The connections of one member to all others of a room: whoever was there first offers to who comes, or comes back.
 * Events: `peer` (detail: { clientId, stream, state }), `gone` (detail: clientId), `text` (detail: { from, text }), `away` and `back` (detail as of
 * the gateway's `seat`), `over` (detail: { reason }, as of `room_terminated`, or "kicked" or "banned"; or { reason: "refused", refusal } of one who
 * wanted to come back).
 *
 * What two members have with each other does not go through the gateway, and goes on while that cannot be reached. Whoever comes back to
 * the room keeps the connections that work and drops the others; those who hear that somebody has returned keep theirs while it works, and
 * otherwise offer anew. So what could not be said meanwhile (an offer, a restart of ICE) need not be said: it is done again.
 */
export class Call extends EventTarget {
  #gateway;
  #roomId;
  #stream;
  #iceServers = [];
  #peers = new Map();
  #isIn = false;
  #hears;

  constructor(gateway, roomId, stream) {
    super();
    this.#gateway = gateway;
    this.#roomId = roomId;
    this.#stream = stream;
    const ofThisRoom = (hear) => (event) => event.detail.room_id === roomId && hear(event.detail);
    const whileIn = (hear) => ofThisRoom((detail) => this.#isIn && hear(detail)); // before the answer to JOIN all is of a stay that is past
    this.#hears = {
      seat: ofThisRoom((seat) => this.#hearSeat(seat)),
      room_event: ofThisRoom((event) => this.#hearEvent(event)),
      signal_offer: whileIn((signal) => this.#hearOffer(signal)),
      signal_answer: whileIn((signal) => this.#hearAnswer(signal)),
      signal_ice_candidate: whileIn((signal) => this.#hearCandidate(signal)),
    };
    for (const [name, hear] of Object.entries(this.#hears)) gateway.addEventListener(name, hear);
  }

  get peers() {
    return this.#peers;
  }

  /** Come into the room, in this role or the other one. */
  async join(role) {
    const joined = await this.#gateway.sit(this.#roomId, role);
    this.#isIn = true;
    this.#iceServers = joined.ice_servers ?? [{ urls: joined.stun_url }];
    return joined;
  }

  /** Say something to all over the data channels. */
  write(text) {
    for (const peer of this.#peers.values()) if (peer.channel?.readyState === "open") peer.channel.send(text);
  }

  /** Give up the seat and all connections. */
  async leave() {
    this.close();
    await this.#gateway.leave(this.#roomId).catch(() => {});
  }

  /** Give up all connections. */
  close() {
    this.#isIn = false;
    for (const [name, hear] of Object.entries(this.#hears)) this.#gateway.removeEventListener(name, hear);
    for (const clientId of [...this.#peers.keys()]) this.#drop(clientId);
  }

  #hearSeat(seat) {
    this.#isIn = seat.state === "back";
    if (seat.state === "gone") {
      this.#end({ reason: "refused", refusal: seat.refusal });
      return;
    }
    if (seat.state === "back") {
      this.#iceServers = seat.joined.ice_servers ?? this.#iceServers;
      for (const [clientId, peer] of [...this.#peers]) {
        if (clientId === undefined || !isWell(peer)) this.#drop(clientId); // a media backend's ended with the session
        else peer.offers = false; // the others are here already
      }
    }
    this.dispatchEvent(new CustomEvent(seat.state, { detail: seat }));
  }

  #hearEvent(event) {
    if (event.event === "member_joined" && event.reason !== "promoted" && this.#isIn) this.#meetAgain(event.client_id, event.reason);
    else if (event.event === "member_left" && event.client_id === this.#gateway.clientId) this.#end({ reason: event.reason });
    else if (event.event === "member_left") this.#drop(event.client_id);
    else if (event.event === "room_terminated") this.#end({ reason: event.reason });
  }

  #end(why) {
    this.close();
    this.dispatchEvent(new CustomEvent("over", { detail: why }));
  }

  /** Somebody is here now. Who has returned may have nothing left of before, which shows soon if it is so, or all. */
  #meetAgain(clientId, reason) {
    const peer = this.#peers.get(clientId);
    if (reason !== "returned" || !peer || !isWell(peer)) {
      this.#offer(clientId);
      return;
    }
    peer.offers = true;
    peer.doubtedUntil = performance.now() + DOUBT_MS;
  }

  async #offer(clientId) {
    this.#drop(clientId);
    const peer = this.#meet(clientId);
    peer.offers = true;
    this.#listen(peer, clientId, peer.connection.createDataChannel("chat"));
    await peer.connection.setLocalDescription();
    this.#say("signal_offer", clientId, { sdp: peer.connection.localDescription.sdp });
  }

  async #hearOffer({ from, sdp }) {
    let peer = this.#peers.get(from);
    if (!peer || peer.offers || peer.connection.connectionState === "closed" || isAnother(peer, sdp)) {
      this.#drop(from);
      peer = this.#meet(from);
      peer.connection.ondatachannel = ({ channel }) => this.#listen(peer, from, channel);
    }
    await peer.connection.setRemoteDescription({ type: "offer", sdp });
    await peer.connection.setLocalDescription();
    this.#say("signal_answer", from, { sdp: peer.connection.localDescription.sdp });
  }

  async #hearAnswer({ from, sdp }) {
    const peer = this.#peers.get(from);
    if (peer?.connection.signalingState !== "have-local-offer") return;
    if (isAnother(peer, sdp)) await this.#offer(from); // who answers a restart of ICE has nothing left of before
    else await peer.connection.setRemoteDescription({ type: "answer", sdp });
  }

  async #hearCandidate({ from, candidate }) {
    const peer = this.#peers.get(from);
    if (!peer || !candidate) return;
    await peer.connection.addIceCandidate(candidate).catch(() => {}); // of a description that was replaced meanwhile
  }

  #meet(clientId) {
    const connection = new RTCPeerConnection({ iceServers: this.#iceServers });
    const peer = { connection, stream: new MediaStream(), channel: null, offers: false, doubtedUntil: 0 };
    this.#peers.set(clientId, peer);
    for (const track of this.#stream?.getTracks() ?? []) connection.addTrack(track, this.#stream);
    connection.ontrack = ({ track }) => {
      peer.stream.addTrack(track);
      this.#tell(clientId);
    };
    connection.onicecandidate = ({ candidate }) => this.#say("signal_ice_candidate", clientId, { candidate: candidate?.toJSON() ?? null });
    connection.onconnectionstatechange = () => {
      this.#tell(clientId);
      this.#mend(clientId, peer);
    };
    this.#tell(clientId);
    return peer;
  }

  #mend(clientId, peer) {
    if (!this.#isIn || !peer.offers || this.#peers.get(clientId) !== peer || isWell(peer)) return;
    if (performance.now() < peer.doubtedUntil) this.#offer(clientId);
    else if (peer.connection.connectionState === "failed") this.#restart(clientId, peer.connection);
  }

  async #restart(clientId, connection) {
    connection.restartIce();
    await connection.setLocalDescription();
    this.#say("signal_offer", clientId, { sdp: connection.localDescription.sdp });
  }

  #listen(peer, clientId, channel) {
    peer.channel = channel;
    channel.onopen = () => this.#tell(clientId);
    channel.onclose = () => this.#mend(clientId, peer);
    channel.onmessage = ({ data }) => this.dispatchEvent(new CustomEvent("text", { detail: { from: clientId, text: String(data) } }));
  }

  #say(name, clientId, body) {
    if (this.#isIn) this.#gateway.signal(name, this.#roomId, clientId, body); // what is not said now is done again by who hears that we are back
  }

  #tell(clientId) {
    const peer = this.#peers.get(clientId);
    if (!peer) return;
    const detail = { clientId, stream: peer.stream, state: peer.connection.connectionState, canWrite: peer.channel?.readyState === "open" };
    this.dispatchEvent(new CustomEvent("peer", { detail }));
  }

  #drop(clientId) {
    const peer = this.#peers.get(clientId);
    if (!peer) return;
    this.#peers.delete(clientId);
    peer.connection.onconnectionstatechange = null;
    peer.connection.close();
    this.dispatchEvent(new CustomEvent("gone", { detail: clientId }));
  }
}
