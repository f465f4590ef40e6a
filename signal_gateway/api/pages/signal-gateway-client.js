// A client of the signalling gateway for browsers: one WebSocket that comes back by itself, rooms, and signals between their members.
// No dependency, no build step. The protocol is described in docs/protocol.md; this speaks its JSON form.
//
//   const gateway = new SignalGateway({ url: "ws://127.0.0.1:8080/ws", clientId: "guest-1", token: "..." });
//   gateway.addEventListener("signal_offer", (event) => ...event.detail...);
//   await gateway.open();
//   const room = await gateway.join(roomId, "receiver");

const VERSION = "1.0.0";
const REQUEST_MS = 10_000;
const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 30_000;
const BEAT_MS = 25_000;
const PROTOCOL_ERRORS = [1002, 1007, 1009];

/** A request that was refused: `status` is HTTP-like, `reason` a stable word where the gateway gave one. */
export class Refused extends Error {
  constructor(data) {
    super(data.message);
    this.status = data.status;
    this.reason = data.reason;
  }
}

/**
 * One client's link. Events: `state` (detail: "connecting", "open", "waiting", "closed"), and one of its lower-case name for each message that
 * the gateway says unasked: `signal_offer`, `signal_answer`, `signal_ice_candidate`, `room_event`, `error`.
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

  leave(roomId, reason = "left") {
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
      if (error instanceof Refused) this.refusal = error;
      socket.close();
      return;
    }
    this.#tries = 0;
    this.refusal = null;
    this.#beat(socket);
    this.#becomes("open");
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
    this.dispatchEvent(new CustomEvent(message.type, { detail: message.data }));
  }

  #answer(requestId, result) {
    const asked = this.#asked.get(requestId);
    this.#asked.delete(requestId);
    clearTimeout(asked.timer);
    if (result instanceof Error) asked.reject(result);
    else asked.resolve(result);
  }

  #lost(socket, code) {
    if (this.#socket !== socket) return;
    this.#socket = null;
    this.closeCode = code;
    this.#timers.forEach(clearInterval);
    this.#timers.clear();
    for (const requestId of [...this.#asked.keys()]) this.#answer(requestId, new Error("the link was lost"));
    if (!this.#isWanted || (code >= 4500 && code <= 4999) || code === 4003 || PROTOCOL_ERRORS.includes(code)) {
      this.#becomes("closed");
      return;
    }
    // Full jitter: a fleet that lost its server at one moment does not come back in one.
    const longest = Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** this.#tries++);
    this.#becomes("waiting");
    setTimeout(() => this.#isWanted && this.#connect(), FIRST_WAIT_MS / 2 + Math.random() * longest);
  }

  #becomes(state) {
    if (this.state === state) return;
    this.state = state;
    this.dispatchEvent(new CustomEvent("state", { detail: state }));
  }
}

/**
 * The connections of one member to all others of a room: whoever was there first offers to who comes.
 * Events: `peer` (detail: { clientId, stream, state }), `gone` (detail: clientId), `text` (detail: { from, text }).
 */
export class Call extends EventTarget {
  #gateway;
  #roomId;
  #stream;
  #iceServers = [];
  #peers = new Map();
  #hears;

  constructor(gateway, roomId, stream) {
    super();
    this.#gateway = gateway;
    this.#roomId = roomId;
    this.#stream = stream;
    this.#hears = {
      room_event: (event) => this.#hearEvent(event.detail),
      signal_offer: (event) => this.#hearOffer(event.detail),
      signal_answer: (event) => this.#hearAnswer(event.detail),
      signal_ice_candidate: (event) => this.#hearCandidate(event.detail),
    };
    for (const [name, hear] of Object.entries(this.#hears)) gateway.addEventListener(name, hear);
  }

  get peers() {
    return this.#peers;
  }

  /** Come into the room, in the other role where this one is not to be had: another one sends, or one who receives was made the sender. */
  async join(role) {
    let joined;
    try {
      joined = await this.#gateway.join(this.#roomId, role);
    } catch (error) {
      if (error.status !== 400) throw error;
      joined = await this.#gateway.join(this.#roomId, role === "sender" ? "receiver" : "sender");
    }
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
    for (const [name, hear] of Object.entries(this.#hears)) this.#gateway.removeEventListener(name, hear);
    for (const clientId of [...this.#peers.keys()]) this.#drop(clientId);
  }

  #hearEvent(event) {
    if (event.room_id !== this.#roomId) return;
    if (event.event === "member_joined" && event.reason !== "promoted") this.#offer(event.client_id);
    else if (event.event === "member_left") this.#drop(event.client_id);
    else if (event.event === "room_terminated") {
      for (const clientId of [...this.#peers.keys()]) this.#drop(clientId);
      this.dispatchEvent(new CustomEvent("over", { detail: event.reason }));
    }
  }

  async #offer(clientId) {
    this.#drop(clientId);
    const peer = this.#meet(clientId);
    peer.offers = true;
    this.#listen(peer, clientId, peer.connection.createDataChannel("chat"));
    await peer.connection.setLocalDescription();
    this.#say("signal_offer", clientId, { sdp: peer.connection.localDescription.sdp });
  }

  async #hearOffer({ room_id: roomId, from, sdp }) {
    if (roomId !== this.#roomId) return;
    let peer = this.#peers.get(from);
    if (!peer || peer.offers || peer.connection.connectionState === "closed") {
      this.#drop(from);
      peer = this.#meet(from);
      peer.connection.ondatachannel = ({ channel }) => this.#listen(peer, from, channel);
    }
    await peer.connection.setRemoteDescription({ type: "offer", sdp });
    await peer.connection.setLocalDescription();
    this.#say("signal_answer", from, { sdp: peer.connection.localDescription.sdp });
  }

  async #hearAnswer({ room_id: roomId, from, sdp }) {
    const peer = this.#peers.get(from);
    if (roomId !== this.#roomId || peer?.connection.signalingState !== "have-local-offer") return;
    await peer.connection.setRemoteDescription({ type: "answer", sdp });
  }

  async #hearCandidate({ room_id: roomId, from, candidate }) {
    const peer = this.#peers.get(from);
    if (roomId !== this.#roomId || !peer || !candidate) return;
    await peer.connection.addIceCandidate(candidate).catch(() => {}); // of a description that was replaced meanwhile
  }

  #meet(clientId) {
    const connection = new RTCPeerConnection({ iceServers: this.#iceServers });
    const peer = { connection, stream: new MediaStream(), channel: null, offers: false };
    this.#peers.set(clientId, peer);
    for (const track of this.#stream?.getTracks() ?? []) connection.addTrack(track, this.#stream);
    connection.ontrack = ({ track }) => {
      peer.stream.addTrack(track);
      this.#tell(clientId);
    };
    connection.onicecandidate = ({ candidate }) => this.#say("signal_ice_candidate", clientId, { candidate: candidate?.toJSON() ?? null });
    connection.onconnectionstatechange = () => {
      if (connection.connectionState === "failed" && peer.offers) this.#restart(clientId, connection);
      this.#tell(clientId);
    };
    this.#tell(clientId);
    return peer;
  }

  async #restart(clientId, connection) {
    connection.restartIce();
    await connection.setLocalDescription();
    this.#say("signal_offer", clientId, { sdp: connection.localDescription.sdp });
  }

  #listen(peer, clientId, channel) {
    peer.channel = channel;
    channel.onopen = () => this.#tell(clientId);
    channel.onmessage = ({ data }) => this.dispatchEvent(new CustomEvent("text", { detail: { from: clientId, text: String(data) } }));
  }

  #say(name, clientId, body) {
    this.#gateway.signal(name, this.#roomId, clientId, body);
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
