// Every change once, with the library `eventsource`: npm install, node follow-sse.mjs
import { EventSource } from "eventsource";

const url = `${process.env.TELECAST_URL ?? "http://127.0.0.1:8080"}/sse/telemetry`;
const key = process.env.TELECAST_KEY;
const types = ["welcome", "snapshot", "resume", "live", "heartbeat", "notice", "market-data"];
let since; // the last id: is the place to come back to
let pause = 500;

function connect() {
  const query = new URLSearchParams({ channels: "market-data", heartbeat: 2, ...(since && { since }) });
  const source = new EventSource(`${url}?${query}`, {
    fetch: (input, init) => fetch(input, { ...init, headers: { ...init.headers, "X-API-Key": key } }),
  });
  let final, alarm, wait = 0;

  const heard = () => {
    clearTimeout(alarm);
    alarm = setTimeout(lost, 6_000); // three heartbeats without a word
  };
  heard();
  for (const type of types) source.addEventListener(type, take);
  source.onerror = (error) => {
    const given = error.code; // an HTTP status: the stream was refused
    if (given && ![429, 500, 502, 503, 504].includes(given)) final = `refused with ${given}`;
    lost();
  };

  function take(event) {
    heard();
    const message = JSON.parse(event.data);
    if (message.type === "event") console.log(message.op, message.channel, message.key);
    if (message.type === "snapshot") console.log("snapshot", message.reason);
    if (message.type === "live") console.log("live at", message.position);
    if (message.type === "notice") {
      wait = message.retryAfterMs ?? 0;
      if (!message.retryable) final = `${message.code}: ${message.message}`;
    }
    if (message.type === "snapshot") since = undefined; // it was earned with rows that go now
    if (event.lastEventId && message.type !== "notice") [since, pause] = [event.lastEventId, 500];
  }

  // Not left to the EventSource, which at some errors gives up.
  function lost() {
    clearTimeout(alarm);
    source.close();
    if (final) {
      console.error(final);
      process.exit(1);
    }
    console.log("disconnected");
    setTimeout(connect, Math.max(wait, pause) * (1 + Math.random() / 2));
    pause = Math.min(2 * pause, 20_000);
  }
}

connect();
