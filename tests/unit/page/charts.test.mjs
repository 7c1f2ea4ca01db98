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
  assert.ok(line.length <= 20_000, String(line.length));
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
