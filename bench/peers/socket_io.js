// The peer Socket.IO on Node, one process, WebSocket alone: passes what one client says to all others of one room.
"use strict";

const { createServer } = require("http");
const { Server } = require("socket.io");

const http = createServer();
const io = new Server(http, { transports: ["websocket"], perMessageDeflate: false, serveClient: false });
io.on("connection", (socket) => {
  socket.join("room");
  socket.on("signal", (data) => socket.to("room").emit("signal", data));
});
http.listen(0, "127.0.0.1", 4096, () => console.log(`ws://127.0.0.1:${http.address().port}/`));
