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

async function view(ended) {
  const client = open(viewed);
  await Promise.all(channels.map((channel) => new Promise((resolve) => {
    client.view(channel, { onchange: (table) => {
      if (table.state !== "live" || !table.has(last[channel])) return;
      for (const [row, data] of table) say("row", channel, row, data);
      ended.now ||= channel === "positions";
      table.close();
      resolve();
    } });
  })));
}

const there = { add: { traderId: "t2" }, remove: { traderId: "t0" } };
const back = { add: { traderId: "t0" }, remove: { traderId: "t2" } };

// A view whose filter changes again and again; in the end it is of t1 and t2.
async function refined(ended) {
  const client = open(viewed);
  let settled = false; // whether its filter is the last one
  let turn = back;
  await new Promise((resolve) => {
    const look = (table) => {
      if (!settled || table.state !== "live" || !table.has(last.positions)) return;
      for (const [row, data] of table) say("refined", row, data);
      table.close();
      resolve();
    };
    const table = client.view("positions", { filter: { traderId: ["t0", "t1"] }, onchange: look });
    const turning = setInterval(() => {
      turn = turn === back ? there : back;
      table.refine(turn);
      settled = ended.now && turn === there;
      if (settled) clearInterval(turning);
    }, 200);
  });
}

async function publish() {
  const client = open(published);
  for await (const line of createInterface({ input: process.stdin })) {
    // Five tries are usual; on this line more than that may fail in a row.
    const { position, duplicate = false } = await client.publish(...JSON.parse(line), { attempts: 50 });
    say("published", position, duplicate);
  }
}

const ended = { now: false };
await Promise.all([follow(), view(ended), refined(ended), publish()]);
