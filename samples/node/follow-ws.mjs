// Every change once, over cuts and restarts, with the library `ws`: npm install, node follow-ws.mjs
import WebSocket from "ws";

const base = (process.env.TELECAST_URL ?? "http://127.0.0.1:8080").replace(/^http/, "ws");
const headers = { "X-API-Key": process.env.TELECAST_KEY };
let since; // the last position that was handled: the place to come back to
let pause = 500;

function connect() {
  const query = new URLSearchParams({ channels: "market-data", heartbeat: 2, ...(since && { since }) });
  const socket = new WebSocket(`${base}/ws/telemetry?${query}`, { headers, perMessageDeflate: false });
  let epoch, inSnapshot, final, alarm, beat = 2, wait = 0;

  // Three heartbeats without a frame: the line is dead, though no error shows.
  const heard = () => {
    clearTimeout(alarm);
    alarm = setTimeout(() => socket.terminate(), 3000 * beat);
  };
  heard();
  socket.on("ping", heard);
  socket.on("message", (data) => {
    const message = JSON.parse(data);
    if (message.type === "welcome") [epoch, beat] = [message.head.split(":")[0], message.heartbeatSeconds];
    heard();
    if (message.type === "snapshot") {
      inSnapshot = true;
      since = undefined; // it was earned with the rows that are to be forgotten now
      console.log("snapshot", message.reason);
    }
    if (message.type === "resume" || message.type === "live") inSnapshot = false;
    if (message.type === "event") console.log(message.op, message.channel, message.key);
    if (message.type === "event" && !inSnapshot) since = `${epoch}:${message.seq}`;
    if (message.type === "heartbeat" && !inSnapshot) since = message.position;
    if (message.type === "live") {
      [since, pause] = [message.position, 500];
      console.log("live at", since);
    }
    if (message.type === "notice") {
      wait = message.retryAfterMs ?? 0;
      if (!message.retryable) final = `${message.code}: ${message.message}`;
    }
  });
  socket.on("unexpected-response", async (request, response) => {
    const body = await response.setEncoding("utf8").toArray();
    if (![429, 500, 502, 503, 504].includes(response.statusCode)) {
      final = `${response.statusCode} ${body.join("")}`;
    }
    wait = 1000 * (response.headers["retry-after"] ?? 1);
    socket.terminate();
  });
  socket.on("error", () => {}); // the close that follows says all there is to do
  socket.on("close", (code) => {
    clearTimeout(alarm);
    if (final) {
      console.error(final); // coming back unchanged would give the same end
      process.exit(1);
    }
    console.log("disconnected", code);
    setTimeout(connect, Math.max(wait, pause) * (1 + Math.random() / 2));
    pause = Math.min(2 * pause, 20_000);
  });
}

connect();
