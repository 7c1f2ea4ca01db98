// A user's program on telecast.js: it follows, it has views, it publishes what it is given on stdin.
// Each over an address of its own. What it gets it prints, one JSON list a line; clients.py reads it.

import { deepStrictEqual } from "node:assert";
import { createInterface } from "node:readline";

const [module, transport, followed, viewed, published] = process.argv.slice(2);
const { Client } = await import(module);
const key = process.env.TELECAST_KEY;
const last = JSON.parse(process.env.LAST); // channel -> the key of its last row
const channels = Object.keys(last);
const say = (...what) => console.log(JSON.stringify(what));

// `seen` is given each item before the client's reader is. It comes back sooner than chance would have it.
function open(url, seen = () => {}) {
  const client = new Client(url, { key, transport });
  const stream = client.stream.bind(client);
  const random = () => -0.45;
  client.stream = (query, emit) => stream(query, (item) => (seen(item), emit(item)), { random });
  return client;
}

async function follow() {
  const came = new Map(); // seq -> the event's text as it came
  const client = open(followed, ({ text }) => {
    const { type, seq } = JSON.parse(text);
    if (type === "event") came.set(seq, text);
  });
  for await (const { event, state, position } of client.follow(channels, { since: "earliest" })) {
    if (state) {
      say("state", state);
      continue;
    }
    const text = came.get(event.seq) ?? "";
    deepStrictEqual(event, JSON.parse(text));
    say("event", text, position);
    if (event.channel === "risk-alerts" && event.key === last["risk-alerts"]) break;
  }
}

async function view() {
  const client = open(viewed);
  await Promise.all(channels.map((channel) => new Promise((resolve) => {
    client.view(channel, { onchange: (table) => {
      if (table.state !== "live" || !table.has(last[channel])) return;
      for (const [row, data] of table) say("row", channel, row, data);
      table.close();
      resolve();
    } });
  })));
}

async function publish() {
  const client = open(published);
  for await (const line of createInterface({ input: process.stdin })) {
    // Five tries are usual; on this line more than that may fail in a row.
    const { position, duplicate = false } = await client.publish(...JSON.parse(line), { attempts: 50 });
    say("published", position, duplicate);
  }
}

await Promise.all([follow(), view(), publish()]);
