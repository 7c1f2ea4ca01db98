// What the page's charts are computed from, without a browser.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Candles, drawCandles } from "../../../service/telecast/web/page/static/candles.js";
import { combine } from "../../../service/telecast/web/page/static/combine.js";
import { Lines } from "../../../service/telecast/web/page/static/lines.js";
import { readPast } from "../../../service/telecast/web/page/static/past.js";

const line = (...points) => points.map(([at, text]) => [at, Number(text), text]);
const texts = (points) => points.map(([at, , text]) => [at, text]);
const ADA = line([10, "0.1"], [30, "0.3"]);
const BOB = line([20, "9007199254740993.5"], [40, "9007199254740993.25"]);

test("several traders are added exactly, beyond what a float holds", () => {
  assert.deepEqual(texts(combine([ADA, BOB])), [
    [10, "9007199254740993.60"], [20, "9007199254740993.60"], [30, "9007199254740993.80"], [40, "9007199254740993.55"],
  ]);
});

test("a trader that comes later is no profit", () => {
  assert.deepEqual(texts(combine([ADA, BOB], "day")), [[10, "0.00"], [20, "0.00"], [30, "0.20"], [40, "-0.05"]]);
});

test("the day begins with what there was when it began", () => {
  assert.deepEqual(texts(combine([ADA, BOB], "day", 30)), [[30, "0.20"], [40, "-0.05"]]);
  assert.deepEqual(combine([ADA, BOB], "day", 41), []);
});

test("a drawdown is counted from the best until then, before the range too", () => {
  assert.deepEqual(texts(combine([line([1, "5"], [2, "8"], [3, "-2.5"], [4, "9"])], "drawdown", 2)), [
    [2, "0.0"], [3, "-10.5"], [4, "0.0"],
  ]);
});

test("long lines are thinned, and their ends and extremes stay", () => {
  const long = Array.from({ length: 50_000 }, (_, at) => [at, at === 777 ? 1e6 : at % 10, at === 777 ? "1000000" : String(at % 10)]);
  const found = combine([long]);
  assert.ok(found.length <= 10_002);
  assert.deepEqual([found[0][0], found.at(-1)[0]], [0, 49_999]);
  assert.ok(found.some(([at, value]) => at === 777 && value === 1e6));
});

test("a line that is open all day holds no more, its last minutes are whole and its morning is no coarser than its noon", () => {
  const lines = new Lines();
  for (let second = 0; second < 86_400; second++) lines.add("price X", second * 1000, second === 5000 ? "777" : String(second % 10));
  const found = lines.of("price X");
  assert.ok(found.length <= 1000, String(found.length));
  assert.equal(found.filter(([at]) => at > 86_100_000).length, 299);
  const between = (from, to) => found.filter(([at]) => at >= from * 3_600_000 && at < to * 3_600_000).length;
  assert.ok(between(1, 5) >= 0.5 * between(10, 14) && between(1, 5) > 30, `${between(1, 5)} ${between(10, 14)}`);
  assert.ok(found.some(([, value]) => value === 777));
  assert.ok(found.every(([at], index) => !index || at > found[index - 1][0]));
});

test("nothing makes no line", () => {
  assert.deepEqual(combine([]), []);
  assert.deepEqual(combine([[], []], "day"), []);
});

const candle = (minute, seq, more = {}) => ({
  op: "upsert", key: "X:BTCUSDT:1m", seq,
  data: { openTime: new Date(minute * 60_000).toISOString(), open: "1.10", high: "3", low: "1", close: "1.20", closed: true, ...more },
});

test("a candle is what its newest event says, in whatever order they come", () => {
  const candles = new Candles();
  candles.observe(candle(2, 9, { close: "2.00", closed: false }));
  candles.observe(candle(1, 3));
  candles.observe(candle(2, 8, { close: "1.50", closed: false }));
  candles.observe({ ...candle(3, 10), op: "delete" });
  assert.deepEqual(candles.of("X:BTCUSDT:1m").map(({ at, close }) => [at / 60_000, close]), [[1, "1.20"], [2, "2.00"]]);
  assert.deepEqual(candles.of("another"), []);
});

test("of one series the newest candles are kept", () => {
  const candles = new Candles();
  for (let minute = 0; minute < 5000; minute++) candles.observe(candle(minute, minute));
  const kept = candles.of("X:BTCUSDT:1m");
  assert.ok(kept.length >= 2000 && kept.length <= 4000, String(kept.length));
  assert.equal(kept.at(-1).at, 4999 * 60_000);
});

test("a candle that fell differs from one that rose without colour, and an open one from both", () => {
  const drawn = [];
  const scale = { add: (name, look) => drawn.push([name, look.class]), x: (at) => at / 1000, y: (value) => -value };
  const candles = new Candles();
  candles.observe(candle(1, 1, { open: "2.000000000000000001", close: "2" }));
  candles.observe(candle(2, 2, { closed: false }));
  drawCandles(candles.of("X:BTCUSDT:1m"), scale);
  assert.deepEqual(drawn.filter(([name]) => name === "rect").map(([, look]) => look), ["candle fell", "candle open rose"]);
});

// A channel's history: `events` in order, in pages.
function past(events) {
  const asked = [];
  const ask = async ({ after, to, limit }) => {
    asked.push(after);
    const seq = (position) => Number(position.split(":")[1]);
    const from = /^e:/.test(after) ? seq(after) : (events.find(({ timestamp }) => timestamp >= Date.parse(after))?.seq ?? 1) - 1;
    const rest = events.filter((each) => each.seq > from && (to === null || each.seq <= seq(to)));
    const found = rest.slice(0, limit);
    return { events: found, position: `e:${found.at(-1)?.seq ?? from}`, more: rest.length > found.length };
  };
  return { ask, asked };
}

const profit = (seq, timestamp, netProfit) => ({
  channel: "trader-status", op: "upsert", key: "t1", seq, timestamp, data: { symbol: "BTCUSDT", metrics: { netProfit } },
});

test("a month of events becomes as many points as can be drawn, and no peak is lost", async () => {
  const count = 120_000;
  const events = Array.from({ length: count }, (_, at) => profit(at + 1, at * 21_600, at === 777 ? "1000000.5" : at === 99_999 ? "-5" : String(at % 10)));
  const { ask } = past(events);
  const found = await readPast({ ask, channel: "trader-status", parts: [{ after: "e:0", pages: 1000 }] });
  const line = new Lines(found.lines).of("profit t1");
  assert.ok(line.length <= 1000, String(line.length));
  assert.deepEqual([line[0][0], line.at(-1)[0]], [0, (count - 1) * 21_600]);
  assert.ok(line.some(([, , text]) => text === "1000000.5") && line.some(([, value]) => value === -5));
  assert.deepEqual([found.currencies.get("t1"), found.hole], ["USDT", null]);
  structuredClone(found); // so that it comes out of the worker
});

test("where a day has more than is read, the newest are read and the hole is said", async () => {
  const events = Array.from({ length: 30_000 }, (_, at) => profit(at + 1, at * 1000, String(at)));
  const { ask } = past(events);
  const parts = [{ after: new Date(0).toISOString(), pages: 2 }, { after: "e:25000", to: "e:30000", pages: 2 }];
  const found = await readPast({ ask, channel: "trader-status", parts });
  assert.deepEqual(found.hole, [9_999_000, 25_000_000]);
  const short = past(events.slice(0, 6000));
  const whole = await readPast({ ask: short.ask, channel: "trader-status", parts: [parts[0], { after: "e:5000", to: "e:6000", pages: 2 }] });
  assert.equal(whole.hole, null);
  assert.equal(short.asked.length, 2); // the second part is in the first already
});

const HOUR = 3_600_000;
const opened = (seq, key, at, unrealizedPnL, more = {}) => ({
  op: "upsert", key, seq, timestamp: at, data: { symbol: "BTCUSDT", unrealizedPnL, openedAt: new Date(at - HOUR).toISOString(), ...more },
});

// What the positions of some events add up to, read from after the event `after`: [[at, text], ...].
async function openProfit(events, { after = 0, trimmed = 0, currency = "USDT" } = {}) {
  const rows = new Map();
  for (const event of events) {
    rows.delete(event.key);
    if (event.op === "upsert") rows.set(event.key, { key: event.key, seq: event.seq, data: event.data });
  }
  const kept = events.filter(({ seq }) => seq > Math.max(after, trimmed));
  const ask = async () => ({ events: kept, more: false, position: `e:${events.length}`, gap: trimmed > after ? { fromSeq: after + 1, toSeq: trimmed } : null });
  const snapshot = async () => ({ rows: [...rows.values()], more: false });
  const found = await readPast({ ask, snapshot, channel: "positions", parts: [{ after: `e:${after}`, pages: 10 }] });
  structuredClone(found); // so that it comes out of the worker
  return texts(new Lines(found.lines).of(`pnl ${currency}`));
}

test("the open P&L of the past is exact where the history is whole", async () => {
  const events = [
    opened(1, "a", 1000, "0.1"), opened(2, "b", 2000, "9007199254740993.5"), opened(3, "c", 3000, "0.002", { symbol: "SOLBTC" }),
    opened(4, "a", 4000, "-1"), { op: "delete", key: "b", seq: 5, timestamp: 5000, data: {} },
  ];
  assert.deepEqual(await openProfit(events), [[1000, "0.1"], [2000, "9007199254740993.6"], [4000, "9007199254740992.5"], [5000, "-1"]]);
  assert.deepEqual(await openProfit(events, { currency: "BTC" }), [[3000, "0.002"]]);
});

test("an open P&L begins when every position is known, and those that stood still count all the while", async () => {
  const events = [
    opened(1, "still", 1000, "100"), opened(2, "moves", 2000, "1"), opened(3, "moves", 3000, "2"),
    opened(4, "new", 4000, "10", { openedAt: new Date(3500).toISOString() }), opened(5, "slow", 1500, "7"),
  ].map((event, index) => ({ ...event, timestamp: (index + 1) * 1000 }));
  // Of "slow" nothing is known before its first event; "new" was not there before.
  assert.deepEqual(await openProfit(events, { after: 2 }), [[5000, "119"]]);
  const known = events.filter(({ key }) => key !== "slow");
  assert.deepEqual(await openProfit(known, { after: 2 }), [[3000, "102"], [4000, "112"]]);
  // What was trimmed may have changed any row that came after it.
  assert.deepEqual(await openProfit(known, { trimmed: 2 }), [[3000, "102"], [4000, "112"]]);
});

test("an open P&L that can't be read as a whole is no line", async () => {
  const ask = async () => ({ events: [opened(1, "a", 1000, "1")], more: true, position: "e:1", gap: null });
  const snapshot = async () => ({ rows: [], more: false });
  const found = await readPast({ ask, snapshot, channel: "positions", parts: [{ after: "e:0", pages: 3 }] });
  assert.equal(found.lines.size, 0);
});

test("the profit of a day is counted from the last value before midnight, however long the line is", () => {
  const lines = new Lines();
  const midnight = 20 * 86_400_000;
  for (let at = midnight - 7 * 86_400_000; at < midnight + 36_000_000; at += 10_000) {
    lines.add("profit t1", at, String(((at / 10_000) * 7919) % 1000));
  }
  const found = lines.of("profit t1");
  const before = (((midnight - 10_000) / 10_000) * 7919) % 1000;
  const last = (((midnight + 36_000_000 - 10_000) / 10_000) * 7919) % 1000;
  assert.ok(found.length <= 1000, String(found.length));
  assert.equal(combine([found], "day", midnight).at(-1)[2], String(last - before));
});
