// The page of calls: who opens it with a link in the fragment comes into that room; who opens it without one starts a room.

import { Call, SignalGateway } from "./signal-gateway-client.js";

const at = (id) => document.getElementById(id);
const IN_WORDS = {
  new: "getting ready",
  connecting: "connecting",
  connected: "connected",
  disconnected: "interrupted, waiting for it to come back",
  failed: "no way to each other found, trying again",
  closed: "gone",
};
const LINK_IN_WORDS = {
  connecting: "Connecting to the server…",
  open: "Connected to the server.",
  waiting: "The server cannot be reached. Trying again…",
};
const LINK_IN_WORDS_IN_A_CALL = {
  connecting: "The server cannot be reached. The call goes on; trying again…",
  open: "The server is there again. Coming back into the call…",
  waiting: "The server cannot be reached. The call goes on; trying again…",
};
const CLOSED_IN_WORDS = {
  4003: "The link of this call has expired.",
  4500: "This call is open in another window.",
  4501: "The link of this call is not good any more.",
};
const REFUSED_IN_WORDS = {
  401: "The link of this call has expired, or was never right.",
  403: "You were taken out of this call, and may not come back.",
  404: "This call is over, or its link is wrong.",
};

let settings;
let gateway = null;
let call = null;
let media = null;

function linked() {
  const given = new URLSearchParams(location.hash.slice(1));
  return given.get("room") && given.get("token") ? { room: given.get("room"), token: given.get("token") } : null;
}

/** This tab's name in one room, if it has been there: the same after the page was loaded again, another one in another tab. */
function known(room) {
  const me = JSON.parse(sessionStorage.getItem("me") ?? "null");
  return me?.room === room ? me : null;
}

function myself(room) {
  if (known(room)) return known(room);
  const me = { room, clientId: `guest-${crypto.randomUUID()}`, role: "receiver" };
  sessionStorage.setItem("me", JSON.stringify(me));
  return me;
}

async function begin() {
  settings = await (await fetch("/call/settings")).json();
  offerStart();
  say("Ready.");
  if (!linked() || !known(linked().room)) return;
  at("invitation").textContent = "Coming back to the call…"; // it was here before: the page was loaded again
  await start();
}

/** Show how to begin, or with a link how to come in, and nothing of a call. */
function offerStart(trouble = "") {
  at("call").hidden = true;
  at("begin").hidden = false;
  at("start").textContent = linked() ? "Join the call" : "Start a call";
  at("invitation").textContent = linked() ? "You were invited to a call." : "Start a call, and send its link to whoever is to join.";
  at("operator").hidden = linked() !== null || settings.makes_rooms;
  at("trouble").textContent = trouble;
}

async function start() {
  at("start").disabled = true;
  at("trouble").textContent = "";
  try {
    if (!linked()) await makeRoom();
    await enter().catch(refused);
  } catch (error) {
    at("trouble").textContent = error.message;
  } finally {
    at("start").disabled = false;
  }
}

/** What was refused is told, and how to begin is shown again. What can be right yet is kept: for another try, by hand or by loading the page. */
function refused(error) {
  const closeCode = gateway?.closeCode;
  const isForGood = error.status in REFUSED_IN_WORDS;
  release();
  if (isForGood) forgetLink();
  if ((isForGood && error.status !== 403) || closeCode === 4500) sessionStorage.removeItem("me"); // who was banned stays who they are
  if (isForGood) offerStart(REFUSED_IN_WORDS[error.status]);
  else if (closeCode === 4500) offerStart("This call is open in another window.");
  else offerStart(`You cannot come in now (${error.message}). Try again in a while.`);
  say("Not in a call.");
}

async function makeRoom() {
  const bearer = at("bearer").value.trim();
  const asked = settings.makes_rooms
    ? fetch("/call/room", { method: "POST" })
    : fetch("/api/rooms", { method: "POST", headers: { Authorization: `Bearer ${bearer}`, "Content-Type": "application/json" }, body: "{}" });
  const answer = await asked;
  const made = await answer.json();
  if (!answer.ok) throw new Error(made.detail ?? "The room could not be made.");
  const me = { room: made.room_id, clientId: `guest-${crypto.randomUUID()}`, role: "sender" };
  sessionStorage.setItem("me", JSON.stringify(me));
  history.replaceState(null, "", `#${new URLSearchParams({ room: made.room_id, token: made.token })}`);
}

async function enter() {
  const { room, token } = linked();
  const me = myself(room);
  media ??= await openMedia();
  at("own").srcObject = media;
  gateway = new SignalGateway({ url: settings.websocket_url, clientId: me.clientId, token });
  gateway.addEventListener("state", ({ target, detail }) => target === gateway && hearLink(detail));
  gateway.addEventListener("error", ({ target, detail }) => target === gateway && hearError(detail));
  await gateway.open();
  const entered = new Call(gateway, room, media);
  entered.addEventListener("peer", (event) => showPeer(event.detail));
  entered.addEventListener("gone", (event) => document.getElementById(`of-${event.detail}`)?.remove());
  entered.addEventListener("text", (event) => showText("Them", event.detail.text));
  entered.addEventListener("away", ({ detail }) => detail.refusal && say(notYet(detail.refusal)));
  entered.addEventListener("back", () => say(call.peers.size ? "Back at the server. The call went on." : "Back in the call. Waiting for others."));
  entered.addEventListener("over", ({ detail }) => call === entered && hearOver(detail));
  await entered.join(me.role);
  call = entered;
  at("begin").hidden = true;
  at("call").hidden = false;
  at("link").value = location.href;
  say("In the call. Waiting for others.");
}

async function openMedia() {
  for (const wanted of [{ audio: true, video: true }, { audio: true }, { video: true }]) {
    try {
      const opened = await navigator.mediaDevices.getUserMedia(wanted);
      for (const [kind, button] of [["audio", "microphone"], ["video", "camera"]]) {
        const isOn = at(button).getAttribute("aria-pressed") === "true"; // as it was left in the call before
        opened.getTracks().filter((track) => track.kind === kind).forEach((track) => (track.enabled = isOn));
      }
      return opened;
    } catch (error) {
      if (error.name === "NotAllowedError") say("Camera and microphone were not allowed: you can read, write, see and hear.");
    }
  }
  return new MediaStream();
}

function hearLink(state) {
  if (state !== "closed") say((call ? LINK_IN_WORDS_IN_A_CALL : LINK_IN_WORDS)[state]);
  else if (call) ended(CLOSED_IN_WORDS[gateway.closeCode] ?? "The server does not go on with this call."); // whoever comes in is told by `refused`
}

function notYet(refusal) {
  return `You cannot come back yet (${refusal.message}). The call goes on; trying again…`;
}

function hearError({ status, message }) {
  if (status !== 404) say(message); // of a signal: its member has left and is seen to be gone, or we have, and are told by `back` or `over`
}

function hearOver({ reason, refusal }) {
  if (reason === "kicked") ended("You were taken out of the call.", { mayReturn: true });
  else if (reason === "banned" || refusal?.status === 403) ended(REFUSED_IN_WORDS[403], { staysWho: true });
  else if (!refusal) ended(`The call is over (${reason.replaceAll("_", " ")}).`);
  else if (refusal.status === 404) ended("The call is over: its room was closed meanwhile.");
  else ended(`You could not come back into the call (${refusal.message}).`, { mayReturn: true });
}

function showPeer({ clientId, stream, state, canWrite }) {
  let figure = document.getElementById(`of-${clientId}`);
  if (!figure) {
    figure = document.createElement("figure");
    figure.id = `of-${clientId}`;
    const video = document.createElement("video");
    video.autoplay = true;
    video.playsInline = true;
    figure.append(video, document.createElement("figcaption"));
    at("people").append(figure);
  }
  const video = figure.querySelector("video");
  if (video.srcObject !== stream) video.srcObject = stream;
  figure.dataset.state = state;
  figure.querySelector("figcaption").textContent = `Them: ${IN_WORDS[state]}`;
  if (state === "connected") say(canWrite ? "Connected: you see, hear and can write to each other." : "Connected.");
  else say(`Them: ${IN_WORDS[state]}.`);
}

function showText(who, text) {
  const line = document.createElement("li");
  line.textContent = `${who}: ${text}`;
  at("texts").append(line);
  line.scrollIntoView({ block: "nearest" });
}

/** The call is over here; who may return does so by a press of the button, never by loading the page. */
function ended(words, { mayReturn = false, staysWho = false } = {}) {
  release();
  if (!staysWho) sessionStorage.removeItem("me");
  if (!mayReturn) forgetLink();
  offerStart();
  say(words);
}

/** Out of the call: no link, no camera, no microphone, nobody to be seen. */
function release() {
  const [left, leftCall] = [gateway, call];
  gateway = call = null; // what these say from now on is of the past
  leftCall?.close();
  left?.close();
  media?.getTracks().forEach((track) => track.stop());
  media = null;
  at("own").srcObject = null;
  document.querySelectorAll("#people figure:not(#me)").forEach((figure) => figure.remove());
}

function forgetLink() {
  history.replaceState(null, "", location.pathname);
}

function toggle(button, kind, words) {
  const isOn = button.getAttribute("aria-pressed") !== "true";
  button.setAttribute("aria-pressed", String(isOn));
  button.textContent = `${words} ${isOn ? "on" : "off"}`;
  media?.getTracks().filter((track) => track.kind === kind).forEach((track) => (track.enabled = isOn));
}

function say(words) {
  at("state").textContent = words;
}

at("start").addEventListener("click", start);
at("copy").addEventListener("click", () => navigator.clipboard?.writeText(at("link").value).then(() => say("The link was copied.")));
at("microphone").addEventListener("click", (event) => toggle(event.currentTarget, "audio", "Microphone"));
at("camera").addEventListener("click", (event) => toggle(event.currentTarget, "video", "Camera"));
at("leave").addEventListener("click", async () => {
  await call?.leave();
  ended("You have left the call.");
});
at("write").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = at("text").value.trim();
  if (!text || !call) return;
  call.write(text);
  showText("You", text);
  at("text").value = "";
});
addEventListener("hashchange", () => gateway || offerStart()); // another link, in the same tab
begin().catch((error) => say(`This page does not work here: ${error.message}`));
