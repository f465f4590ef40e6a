// The peer `ws` on Node, one process: echoes every message. Prints its URL and serves until killed. It sets TCP_NODELAY itself.
"use strict";

const { WebSocketServer } = require("ws");

const server = new WebSocketServer({ host: "127.0.0.1", port: 0, backlog: 4096, perMessageDeflate: false });
server.on("listening", () => console.log(`ws://127.0.0.1:${server.address().port}/`));
server.on("connection", (socket) => {
  socket.on("error", () => {});
  socket.on("message", (data, isBinary) => socket.send(data, { binary: isBinary }));
});
