// Every change once, over cuts and restarts, with Telecast's own client for JavaScript:
// curl -O http://127.0.0.1:8080/client/telecast.js, then node follow.mjs
// Over a WebSocket: node follow.mjs websocket (Node 22; Node 20 with --experimental-websocket)
import { Client } from "./telecast.js";

const url = process.env.TELECAST_URL ?? "http://127.0.0.1:8080";
const transport = process.argv[2] ?? "sse";
const telecast = new Client(url, { key: process.env.TELECAST_KEY, transport });

// A refusal that coming back can't mend, such as a wrong key, is thrown.
for await (const { state, message, op, channel, key } of telecast.follow("market-data")) {
  if (state === undefined) console.log(op, channel, key);
  else console.log(state, message.reason ?? message.code ?? "");
}
