// The JavaScript client without a browser and without a service: run by test_client.py.

import assert from "node:assert/strict";
import { test } from "node:test";
import {
  Clock, Refused, Rows, SseParser, States, Stream, connection, delayOf, foldLink, freshness, newLink,
  rowIsFresh, staleAfterOf,
} from "../../../service/telecast/web/page/client/telecast.js";

const T = 1_000_000;
const FACTS = { channel: "market-data", visible: true, whole: true, rows: 2, lastAt: T, staleAfter: 15_000 };
const welcome = { type: "welcome", heartbeatSeconds: 5, head: "abcd:1" };

function link(...items) {
  return items.reduce(
    (state, [name, at, message = {}, offset = 0]) => foldLink(state, { name, at }, message, offset), newLink(T),
  );
}

const live = (...more) => link(["welcome", T, welcome], ["snapshot", T], ["live", T], ...more);
const lost = (at, more) => ["~lost", at, { reached: true, tried: true, ...more }];

test("nothing is live before a table is whole", () => {
  const facts = { ...FACTS, whole: false };
  assert.equal(freshness(newLink(T), facts, T).state, States.LOADING);
  assert.equal(freshness(link(["welcome", T, welcome]), facts, T).state, States.LOADING);
  assert.equal(freshness(live(), facts, T).state, States.LOADING);
  assert.equal(freshness(live(), FACTS, T).state, States.LIVE);
});

test("a channel that never was published to is not stale: there is nothing that could be old", () => {
  const never = live(["stale", T, { type: "stale", channel: "market-data", since: null, timestamp: T }]);
  const facts = { ...FACTS, rows: 0, lastAt: null, judged: true };
  const found = freshness(never, facts, T);
  assert.deepEqual([found.state, found.level], [States.NEVER, ""]);
  assert.equal(rowIsFresh(found.state, T, 15_000, T), false);
  const since = foldLink(never, { name: "fresh", at: T }, { type: "fresh", channel: "market-data" });
  assert.equal(freshness(since, { ...facts, rows: 1, lastAt: T }, T).state, States.LIVE);
});

test("an event that took over two seconds is delayed, over ten is red", () => {
  for (const [lag, state, level] of [
    [2000, States.LIVE, ""], [2001, States.DELAYED, "amber"], [10_000, States.DELAYED, "amber"],
    [10_001, States.DELAYED, "red"],
  ]) {
    const at = T + lag;
    const found = connection(live(["market-data", at, { type: "event", timestamp: T }]), at);
    assert.deepEqual([found.state, found.level], [state, level], String(lag));
  }
});

test("the difference of the clocks is no delay, and hides none", () => {
  const fast = live(["market-data", T + 20, { type: "event", timestamp: T + 60_000 }, 60_000]);
  assert.equal(delayOf(fast, T + 20), 20);
  const late = live(["market-data", T + 5000, { type: "event", timestamp: T - 60_000 }, -60_000]);
  assert.equal(connection(late, T + 5000).state, States.DELAYED);
});

test("a sign of life that is overdue is a delay before it is a loss", () => {
  assert.equal(connection(live(), T + 3500).state, States.LIVE);
  assert.equal(delayOf(live(), T + 3500), 0);
  assert.equal(connection(live(), T + 3501).state, States.DELAYED);
  assert.equal(delayOf(live(), T + 3501), 3501); // nothing has proven it since
  const often = foldLink(live(), { name: "welcome", at: T }, { type: "welcome", heartbeatSeconds: 2 });
  const beating = foldLink({ ...often, phase: "live" }, { name: "~alive", at: T + 500 }, {});
  assert.deepEqual([2500, 2501].map((ms) => connection(beating, T + ms).state), [States.LIVE, States.DELAYED]);
  assert.equal(connection(live(), T + 10_001).level, "red");
  assert.equal(connection(live(), T + 15_001).level, "red");
});

test("an age goes on from where the delay was: how it stood counts from the last sign of life, less what it took", () => {
  const late = live(["heartbeat", T + 5000, { type: "heartbeat", timestamp: T + 4000 }], ["~alive", T + 6000, {}]);
  assert.equal(delayOf(late, T + 14_000), 8000);
  const cut = foldLink(late, { name: "~lost", at: T + 14_000 }, {});
  assert.equal(connection(cut, T + 14_000).since, T + 5000);
  assert.equal(connection(newLink(T), T + 9).since, T);
});

test("what is replayed is old by nature and no delay", () => {
  const resumed = link(
    ["welcome", T, welcome], ["resume", T], ["positions", T, { type: "event", timestamp: T - 99_999 }], ["live", T],
  );
  assert.equal(connection(resumed, T).state, States.LIVE);
});

test("a lost connection is no longer live at once, and down when nobody answers twice", () => {
  const cut = live(lost(T + 1));
  assert.equal(freshness(cut, FACTS, T + 1).state, States.RECONNECTING);
  const unreached = { reached: false };
  assert.equal(connection(live(lost(T + 1), lost(T + 2, unreached)), T + 2).state, States.RECONNECTING);
  const down = live(lost(T + 1), lost(T + 2, unreached), lost(T + 3, unreached));
  assert.equal(connection(down, T + 3).state, States.DOWN);
  assert.equal(connection(down, T + 3).since, T);
  assert.equal(connection(foldLink(down, { name: "welcome", at: T + 4 }, welcome), T + 4).state, States.LOADING);
});

test("a service that was never there is down, and its channels are unknown and not empty", () => {
  const unreached = { reached: false };
  const down = link(lost(T, unreached), lost(T, unreached));
  assert.equal(freshness(down, { ...FACTS, whole: false, rows: 0 }, T).state, States.UNKNOWN);
});

test("a channel that went quiet is stale though the line is well", () => {
  const at = T + 15_001;
  const beating = live(["heartbeat", at, { type: "heartbeat", timestamp: at }]);
  const found = freshness(beating, FACTS, at);
  assert.deepEqual([found.state, found.level, found.since, found.age], [States.STALE, "red", T, 15_001]);
  assert.equal(freshness(beating, { ...FACTS, staleAfter: null }, at).state, States.LIVE);
});

test("what the service itself calls stale is stale until it says fresh", () => {
  const stale = live(["stale", T, { type: "stale", channel: "market-data", since: T - 500 }]);
  assert.equal(freshness(stale, FACTS, T).state, States.STALE);
  assert.equal(freshness(stale, FACTS, T).since, T - 500);
  assert.equal(freshness(stale, { ...FACTS, channel: "positions" }, T).state, States.LIVE);
  const fresh = foldLink(stale, { name: "fresh", at: T }, { type: "fresh", channel: "market-data" });
  assert.equal(freshness(fresh, FACTS, T).state, States.LIVE);
});

test("where the service judges, a filter that lets nothing through makes no channel stale", () => {
  const at = T + 15_001;
  const beating = live(["heartbeat", at, { type: "heartbeat", timestamp: at }]);
  assert.equal(freshness(beating, { ...FACTS, judged: true }, at).state, States.LIVE);
  assert.equal(rowIsFresh(States.LIVE, T, FACTS.staleAfter, at), false);
});

test("not visible and empty are not the same", () => {
  const facts = { ...FACTS, rows: 0, lastAt: null };
  assert.equal(freshness(live(), facts, T).state, States.EMPTY);
  assert.equal(freshness(live(), { ...facts, visible: false, whole: false }, T).state, States.NOT_VISIBLE);
});

test("the end is final", () => {
  const ended = live(["~ended", T, { code: "REVOKED" }]);
  assert.equal(connection(ended, T).state, States.ENDED);
  assert.equal(foldLink(ended, { name: "~lost", at: T }, {}).phase, "ended");
});

test("a row looks fresh only in a live channel and within its time", () => {
  assert.equal(rowIsFresh(States.LIVE, T, 1000, T + 1000), true);
  assert.equal(rowIsFresh(States.LIVE, T, 1000, T + 1001), false);
  assert.equal(rowIsFresh(States.LIVE, T, null, T + 1e9), true);
  assert.equal(rowIsFresh(States.DELAYED, T, 1000, T), false);
  assert.equal(rowIsFresh(States.LIVE, T, 1000, T, 1001), false);
});

test("the catalogue says when a channel is stale, else it is usual", () => {
  assert.equal(staleAfterOf({ name: "positions", staleAfterSeconds: 7 }), 7000);
  assert.equal(staleAfterOf({ name: "positions", staleAfterSeconds: null }), null);
  assert.equal(staleAfterOf({ name: "positions" }), 120_000);
  assert.equal(staleAfterOf(null, "mine"), null);
});

test("the clocks are compared by the fastest answer", async () => {
  const clock = new Clock();
  const trips = [100, 10, 100, 100];
  let ours = 0;
  const ask = async () => {
    const trip = trips.shift();
    ours += trip;
    return ours - trip / 2 + 5000;
  };
  const ahead = async () => (await ask()) + (trips.length === 2 ? 0 : 7);
  await clock.measure(ahead, () => ours, () => ours);
  assert.deepEqual([clock.offset, clock.doubt], [5000, 5]);
});

test("a clock that is set while the clocks are compared leaves what was known", async () => {
  const clock = new Clock();
  let ours = 1000;
  let passed = 0;
  const ask = async () => ((ours += 2), (passed += 2), 6000 + passed);
  assert.equal(await clock.measure(ask, () => ours, () => passed), true);
  const known = [clock.offset, clock.doubt];
  assert.equal(known[0], 5001);
  assert.equal(await clock.measure(async () => ((ours -= 3_600_000), ask()), () => ours, () => passed), false);
  assert.deepEqual([clock.offset, clock.doubt], known);
});

const event = (key, op = "upsert", seq = 1) => ({ type: "event", channel: "c", key, op, seq, data: key + seq, timestamp: seq });

test("a snapshot that was cut short counts for nothing, a whole one is all there is", () => {
  const rows = new Rows();
  const snapshot = { type: "snapshot", channels: ["c"] };
  for (const each of [event("ghost"), snapshot, event("a", "upsert", 2), { type: "welcome" }]) rows.apply(each);
  assert.deepEqual([...rows.of("c").keys()], ["ghost"]);
  assert.equal(rows.whole.has("c"), false);
  for (const each of [snapshot, event("a", "upsert", 3), { type: "live" }, event("b"), event("b", "delete")]) rows.apply(each);
  assert.deepEqual([...rows.of("c").keys()], ["a"]);
  assert.equal(rows.lastAt.get("c"), 3);
  rows.apply({ type: "ack", channels: ["d"] });
  assert.equal(rows.of("c").size + rows.whole.size, 0);
});

test("a message is read however its text was torn", () => {
  const text = 'retry: 1500\n\n: quiet\nid: abcd:7\r\nevent: live\ndata: {"a":\ndata: 1}\n\nid:\ndata: x\n\n';
  const whole = new SseParser();
  const expected = [{ name: "live", text: '{"a":\n1}', id: "abcd:7" }, { name: "message", text: "x", id: "" }];
  assert.deepEqual(whole.feed(text), expected);
  assert.deepEqual([whole.retry, whole.comments], [1500, 1]);
  const torn = new SseParser();
  assert.deepEqual([...text].flatMap((letter) => torn.feed(letter)), expected);
});

test("a comment line is a sign of life, a message that is not whole is none", async () => {
  const { items } = await told([`${start}${block({ type: "live", position: "abcd:5" }, "abcd:5")}:\n\nevent: c\ndata: {"ty`]);
  assert.deepEqual(items.map(({ name }) => name).slice(0, 4), ["welcome", "snapshot", "live", "~alive"]);
  const torn = await told([`${start}${block({ type: "live", position: "abcd:5" }, "abcd:5")}event: c\ndata: {"ty`]);
  assert.ok(!torn.items.some(({ name }) => name === "~alive"));
});

const block = (message, id) => `${id ? `id: ${id}\n` : ""}event: ${message.channel ?? message.type}\ndata: ${JSON.stringify(message)}\n\n`;
const start = block(welcome) + block({ type: "snapshot", channels: ["c"] });

// A service of which each connection says what stands in a list, then ends; then `finish` is called.
function connections(answers, finish) {
  const asked = [];
  const fetch = async (address) => {
    asked.push(new URL(address).searchParams.get("since"));
    const answer = answers.shift();
    if (answer === undefined) return finish(), new Promise(() => {});
    if (answer instanceof Error) throw answer;
    if (typeof answer !== "string") return answer;
    return new Response(answer, { headers: { "Content-Type": "text/event-stream" } });
  };
  return { fetch, asked };
}

async function told(answers, { since = null } = {}) {
  const items = [];
  const asked = await new Promise((resolve) => {
    const service = connections(answers, () => (stream.close(), resolve(service.asked)));
    const stream = new Stream({
      url: "http://service", fetch: service.fetch, random: () => -0.5,
      emit: (item) => {
        items.push(item);
        if (item.name === "~ended") resolve(service.asked);
      },
    });
    stream.open(since);
  });
  return { items, asked };
}

test("a line that is silent for four heartbeats is made anew, whatever the clock was set to", () => {
  for (const direction of [1, -1]) {
    let at = 0;
    const lost = [];
    const stream = new Stream({
      url: "http://x", now: () => at, fetch: () => new Promise(() => {}), emit: (item) => lost.push(item.name),
    });
    stream.open();
    at = direction * 8000;
    stream.check();
    assert.deepEqual(lost, []);
    at = direction * 8001;
    stream.check();
    stream.close();
    assert.deepEqual(lost, ["~lost"]);
  }
});

test("a computer that wakes tries at once where the next try is due by the clock, once", async () => {
  let at = 0;
  let tries = 0;
  const lost = [];
  const stream = new Stream({
    url: "http://x", now: () => at, random: () => 0.5, emit: (item) => lost.push(item.name),
    fetch: () => (tries++ ? new Promise(() => {}) : Promise.reject(new TypeError("cut"))),
  });
  stream.open();
  await new Promise((resolve) => setTimeout(resolve));
  assert.deepEqual([tries, lost], [1, ["~lost"]]);
  stream.check(); // the next try is due in a second
  assert.equal(tries, 1);
  at = 3_600_000;
  stream.check();
  stream.check();
  await new Promise((resolve) => setTimeout(resolve));
  assert.deepEqual([tries, lost], [2, ["~lost"]]);
  stream.close();
});

test("a stream comes back from the last position that it saw", async () => {
  const { items, asked } = await told([
    start + block(event("a", "upsert", 4)) + block({ type: "live", position: "abcd:5" }, "abcd:5") +
      block(event("a", "upsert", 6), "abcd:6"),
    block(welcome) + block({ type: "resume", from: "abcd:6", channels: ["c"] }) + block(event("a", "upsert", 7), "abcd:7"),
  ]);
  assert.deepEqual(asked, [null, "abcd:6", "abcd:7"]);
  assert.equal(items.filter(({ name }) => name === "~lost").length, 2);
});

// A WebSocket that opens at once; `say` has the service speak, `asked` is what it was sent.
function socketed(query = { channels: "c,d", traderId: ["t1", "t2"] }) {
  const sockets = [];
  class FakeSocket {
    constructor(address) {
      Object.assign(this, { since: new URL(address).searchParams.get("since"), query: new URL(address).search, asked: [] });
      sockets.push(this);
      queueMicrotask(() => this.onopen());
    }

    send(text) {
      this.asked.push(JSON.parse(text));
    }

    say(...messages) {
      for (const message of messages) this.onmessage({ data: JSON.stringify(message) });
    }

    close() {
      if (!this.closed) queueMicrotask(() => this.onclose());
      this.closed = true;
    }
  }
  const items = [];
  const stream = new Stream({
    url: "http://x", query, transport: "websocket", WebSocket: FakeSocket, random: () => -0.5,
    emit: ({ name, id }) => items.push([name, id]),
  });
  stream.open();
  return { stream, sockets, items };
}

const settled = () => new Promise((resolve) => setImmediate(resolve));
const filled = [welcome, { type: "snapshot", channels: ["c", "d"] }, { type: "live", position: "abcd:5" }];

test("a filter that changes is asked for on the open socket, and proves no position before its live", async () => {
  const { stream, sockets, items } = socketed();
  await settled();
  const [socket] = sockets;
  socket.say(...filled);
  stream.refine({ add: { traderId: "t3" }, remove: { traderId: ["t1"] } });
  assert.deepEqual(socket.asked, [{
    action: "filter", reqId: "filter-1", channels: ["c", "d"], add: { traderId: ["t3"] }, remove: { traderId: ["t1"] },
  }]);
  socket.say({ type: "heartbeat", position: "abcd:6" }, { type: "live", position: "abcd:6" });
  assert.equal(stream.position, null, "this live was on its way already");
  socket.say({ type: "ack", action: "filter", reqId: "filter-1", channels: ["c", "d"] });
  socket.say({ type: "leave", channel: "c", keys: ["a"] }, event("b", "upsert", 7));
  assert.equal(stream.position, null);
  socket.say({ type: "live", position: "abcd:7" });
  assert.equal(stream.position, "abcd:7");
  assert.deepEqual(items.slice(3).map(([name, id]) => [name, id]), [
    ["~refined", null], ["heartbeat", null], ["live", null], ["ack", null], ["leave", null], ["c", null], ["live", "abcd:7"],
  ]);
  stream.close();
});

test("a socket that ends before the new filter's live is made anew without a position, with the new filter", async () => {
  const { stream, sockets } = socketed();
  await settled();
  sockets[0].say(...filled);
  stream.refine({ remove: { traderId: "t1" } });
  sockets[0].say({ type: "ack", action: "filter" }, event("b", "upsert", 7));
  sockets[0].close();
  await settled();
  stream.open(); // as its timer would
  await settled();
  assert.deepEqual([sockets[1].since, /traderId=t1/.test(sockets[1].query), /traderId=t2/.test(sockets[1].query)], [null, false, true]);
  stream.close();
});

test("a filter that is refused is asked for by a new connection, which says why", async () => {
  const { stream, sockets } = socketed();
  await settled();
  sockets[0].say(...filled);
  stream.refine({ add: { traderId: "t3" } });
  sockets[0].say({ type: "error", reqId: "filter-1", code: "BAD_REQUEST" });
  await settled();
  assert.deepEqual([sockets.length, sockets[0].closed, sockets[1].since], [2, true, null]);
  stream.close();
});

test("a filter that can not be changes nothing, and says so at once", async () => {
  const { stream, sockets } = socketed();
  await settled();
  sockets[0].say(...filled);
  for (const [refinement, words] of [
    [{ add: { symbol: "x" } }, /not filtered by "symbol"/], [{ add: { channels: "x" } }, /not filtered by "channels"/],
    [{ remove: { traderId: ["t1", "t2"] } }, /No value of "traderId"/],
  ]) assert.throws(() => stream.refine(refinement), words);
  assert.deepEqual([stream.position, sockets[0].asked, stream.query.traderId], ["abcd:5", [], ["t1", "t2"]]);
  stream.close();
});

test("a table whose filter changes is loading until its rows are those of the new one", () => {
  const refined = live(["~refined", T, { add: {} }]);
  assert.equal(connection(refined, T).state, States.LOADING);
  const early = foldLink(refined, { name: "live", at: T, id: null }, { type: "live" });
  assert.equal(connection(early, T).state, States.LOADING);
  const done = foldLink(early, { name: "live", at: T, id: "abcd:7" }, { type: "live" });
  assert.equal(connection(done, T).state, States.LIVE);
});

test("rows that leave are gone, and what the filter's ack does not name stays", () => {
  const rows = new Rows();
  for (const message of [
    { type: "snapshot", channels: ["c"] }, event("a", "upsert", 1), event("b", "upsert", 2), { type: "live" },
    { type: "ack", action: "filter", channels: [] }, { type: "leave", channel: "c", keys: ["a", "nobody"] },
  ]) rows.apply(message);
  assert.deepEqual([...rows.of("c").keys()], ["b"]);
});

test("a snapshot that is cut short proves no position", async () => {
  const { asked } = await told([start + block(event("a", "upsert", 4))], { since: "abcd:2" });
  assert.deepEqual(asked, ["abcd:2", null]);
});

test("nobody, a proxy's page and a broken answer are tried again, a refusal is final", async () => {
  const page = () => new Response("<p>Wait", { headers: { "Content-Type": "text/html" } });
  const error = { code: "UNAUTHENTICATED", message: "This key is not known here.", retryable: false };
  const { items } = await told([
    new TypeError("refused"), page(), new Response("bad gateway", { status: 502 }),
    new Response(JSON.stringify({ success: false, error }), { status: 401 }),
  ]);
  const [first, ...rest] = items.map(({ name, text }) => [name, JSON.parse(text)]);
  assert.equal(first[1].reached, false);
  assert.deepEqual(rest.map(([name]) => name), ["~lost", "~lost", "~ended"]);
  assert.deepEqual([rest[2][1].code, rest[2][1].status], ["UNAUTHENTICATED", 401]);
});

test("a notice that says no more is final though the status was good", async () => {
  const notice = { type: "notice", code: "KEY_REVOKED", message: "No more.", retryable: false, retryAfterMs: null };
  const { items } = await told([start + block(notice)]);
  assert.deepEqual(items.map(({ name }) => name).slice(-2), ["notice", "~ended"]);
});

test("a refusal keeps what the service advises", () => {
  const fault = new Refused({ code: "FORBIDDEN", message: "No.", advice: "Ask for the scope." }, 403);
  assert.deepEqual([fault.code, fault.advice, fault.status, fault.retryable], ["FORBIDDEN", "Ask for the scope.", 403, false]);
});

test("a selection that is too long for an address goes into a body, and all else stands as before", async () => {
  const asked = [];
  const fetch = (address, options) => {
    asked.push({ address, options });
    return new Promise(() => {});
  };
  const traders = Array.from({ length: 400 }, (_, n) => `a-trader-${n}`);
  const query = { channels: "positions,risk-alerts", traderId: traders, replay: "false", maxRate: 0.5 };
  for (const each of [{ ...query, traderId: ["t1", "t2"] }, query]) {
    const stream = new Stream({ url: "http://x", query: each, emit: () => {}, fetch, ticket: async () => "T" });
    stream.open("abcd:7");
    await new Promise(setImmediate);
    stream.close();
  }
  const [short, long] = asked;
  assert.equal(short.options.method, undefined);
  assert.match(short.address, /traderId=t1&traderId=t2/);
  assert.equal(long.address, "http://x/sse/telemetry?ticket=T");
  assert.equal(long.options.method, "POST");
  assert.equal(long.options.headers["Content-Type"], "application/json");
  assert.deepEqual(JSON.parse(long.options.body), {
    heartbeat: 2, channels: ["positions", "risk-alerts"], filter: { traderId: traders },
    replay: false, maxRate: 0.5, since: "abcd:7",
  });
});

// --- rows, as section 4 of the protocol says

const came = (op, key, data = "") => ({ type: "event", channel: "positions", op, key, seq: 1, data });
const SNAPSHOT = { type: "snapshot", channels: ["positions"], reason: "NEW" };
const LIVE = { type: "live", count: 1, position: "abcd:1" };

for (const [name, messages, expected] of [
  ["an upsert is the whole row", [came("upsert", "a", "1"), came("upsert", "a", "2"), came("upsert", "b")], [["a", "2"], ["b", ""]]],
  ["a delete takes a row away, and one for nothing does nothing", [came("upsert", "a"), came("delete", "a"), came("delete", "b")], []],
  ["a snapshot is complete: other rows are forgotten", [came("upsert", "ghost"), SNAPSHOT, came("upsert", "a"), LIVE], [["a", ""]]],
  [
    "rows of a snapshot that was cut short are not shown",
    [came("upsert", "a"), SNAPSHOT, { type: "welcome" }, came("upsert", "b"), LIVE], [["a", ""], ["b", ""]],
  ],
  ["what may not be read any more is not shown any more", [came("upsert", "a"), { type: "ack", channels: ["risk-alerts"] }], []],
  ["unknown types are ignored", [came("upsert", "a"), { type: "something-new", channels: ["positions"] }], [["a", ""]]],
]) {
  test(name, () => {
    const rows = new Rows();
    for (const message of messages) rows.apply(message);
    assert.deepEqual([...rows.of("positions")].map(([key, { data }]) => [key, data]), expected);
  });
}
