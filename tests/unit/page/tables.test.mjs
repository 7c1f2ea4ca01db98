// What the page's tables are computed from, without a browser.

import assert from "node:assert/strict";
import { test } from "node:test";

globalThis.localStorage = undefined;
const STATIC = "../../../service/telecast/web/page/static";
const { ExactSum, Totals } = await import(`${STATIC}/tally.js`);
const { totals } = await import(`${STATIC}/group.js`);
const { VIEWS } = await import(`${STATIC}/channels.js`);
const { Order } = await import(`${STATIC}/order.js`);
const { RowHistory } = await import(`${STATIC}/history.js`);
const { setZone, time } = await import(`${STATIC}/format.js`);

const ABOUT = { field: "pnl", currency: ({ symbol }) => (symbol.endsWith("BTC") ? "BTC" : "USDT") };
const row = (symbol, pnl) => ({ symbol, pnl });

test("a sum that is kept is the sum of what is there, whatever came and went", () => {
  const kept = new Totals(ABOUT);
  const there = [];
  let seed = 7;
  const random = (below) => (seed = (seed * 48271) % 2147483647) % below;
  for (let step = 0; step < 2000; step++) {
    if (there.length && random(5) < 2) kept.remove(there.splice(random(there.length), 1)[0]);
    else {
      const places = random(9);
      const text = `${random(2) ? "-" : ""}${random(99999)}${places ? `.${String(random(10 ** places)).padStart(places, "0")}` : ""}`;
      there.push(row(random(3) ? "AUSDT" : "ABTC", text));
      kept.add(there.at(-1));
    }
    if (step % 100 === 0) assert.deepEqual(kept.entries(), totals(there, ABOUT));
  }
  assert.deepEqual(kept.entries(), totals(there, ABOUT));
});

test("a sum is exact beyond a float, and as long as its longest text that is still there", () => {
  const sum = new ExactSum();
  for (const text of ["9007199254740993.5", "0.00000001", "-0.25"]) sum.add(text);
  assert.equal(String(sum), "9007199254740993.25000001");
  sum.remove("0.00000001");
  assert.equal(String(sum), "9007199254740993.25");
  for (const [texts, total] of [
    [["0.1", "0.2"], "0.3"], [["-0.05", "0.049"], "-0.001"], [["1", "nonsense", null, "-1.00"], "0.00"], [[], "0"],
    [["9007199254740993", "0.000000001", "-1"], "9007199254740992.000000001"],
  ]) {
    const found = new ExactSum();
    for (const text of texts) found.add(text);
    assert.equal(String(found), total);
  }
});

const VIEW = {
  sort: (data, key) => [data.symbol, key], groups: { symbol: ({ symbol }) => symbol },
  columns: [{ id: "pnl", value: ({ pnl }) => Number(pnl) }],
};
const ROWS = new Map([["a", "AUSDT"], ["b", "BUSDT"], ["c", "CUSDT"]].map(([key, symbol], at) => [key, { data: row(symbol, String(at)) }]));
const ASKED = { rows: ROWS, view: VIEW, context: {}, search: "", sort: null, group: "", pinned: [] };
const asked = (more) => new Order().arrange({ ...ASKED, ...more }, null);
const keys = (lines) => lines.map(({ key }) => key);

test("pinned rows stand on top, whatever is searched, sorted or grouped, and once", () => {
  assert.deepEqual(keys(asked({}).lines), ["a", "b", "c"]);
  const found = asked({ pinned: ["c", "gone", "a"], search: "busdt" });
  assert.deepEqual([found.pins, keys(found.lines)], [["c", "a"], ["b"]]);
  assert.deepEqual(keys(asked({ pinned: ["a"], sort: ["pnl", -1] }).lines), ["c", "b"]);
  assert.deepEqual(keys(asked({ pinned: ["a"], group: "symbol" }).lines), ["group BUSDT", "b", "group CUSDT", "c"]);
});

test("money in different currencies is not ranked with each other, and what has none comes last", () => {
  const rows = new Map(Object.entries({
    a: ["AUSDT", "5"], b: ["BBTC", "-0.002"], c: ["CUSDT", "-70"], d: ["DBTC", "0.5"], e: ["EUSDT", null],
  }).map(([key, [symbol, pnl]]) => [key, { data: row(symbol, pnl) }]));
  const view = { ...VIEW, columns: [{ id: "pnl", value: ({ pnl }) => pnl && Number(pnl), part: ABOUT.currency }] };
  assert.deepEqual(keys(asked({ rows, view, sort: ["pnl", 1] }).lines), ["b", "d", "c", "a", "e"]);
  assert.deepEqual(keys(asked({ rows, view, sort: ["pnl", -1] }).lines), ["d", "b", "a", "c", "e"]);
});

test("a position without its trader's name stands under the name that the trader's row says", () => {
  const { sort, groups, columns } = VIEWS.positions;
  const context = { traderName: (id) => ({ t1: "Ada" })[id] };
  const [ours, theirs] = [{ symbol: "BTCUSDT", traderId: "t1" }, { symbol: "BTCUSDT", traderId: "t1", traderName: "A." }];
  assert.deepEqual([ours, theirs].map((each) => groups.trader(each, context)), ["Ada", "A."]);
  assert.equal(groups.trader({ ...ours, traderId: "t2" }, context), "t2");
  assert.equal(sort(ours, "p1", context), "BTCUSDT\0Ada\0p1");
  assert.equal(columns[0].cell(ours, "p1", context).sub, "Ada");
});

test("rows of their own height are not pinned", () => {
  assert.deepEqual(asked({ view: { ...VIEW, flow: true }, pinned: ["c"] }).pins, []);
});

test("rows that follow each change stand where a sort of them all would put them", () => {
  let seed = 11;
  const random = (below) => (seed = (seed * 48271) % 2147483647) % below;
  const rows = new Map();
  const put = (key) => rows.set(key, { data: row(`S${random(5)}${random(2) ? "BTC" : "USDT"}`, String(random(40) - 20)) });
  for (let at = 0; at < 200; at++) put(`k${at}`);
  const order = new Order();
  const ways = [{}, { sort: ["pnl", -1] }, { sort: ["pnl", 1], search: "s1" }, { group: "symbol" }, { pinned: ["k3", "k250"] }];
  for (const way of ways) {
    let changed = null;
    for (let round = 0; round < 60; round++) {
      const found = order.arrange({ ...ASKED, rows, ...way }, changed);
      assert.deepEqual(found, new Order().arrange({ ...ASKED, rows, ...way }, null));
      changed = new Set();
      for (let step = 0; step < random(8); step++) {
        const key = `k${random(260)}`;
        if (random(3)) put(key);
        else rows.delete(key);
        changed.add(key);
      }
    }
  }
});

test("a change that moves no row looks at no other", () => {
  const rows = new Map(Array.from({ length: 1000 }, (_, at) => [`k${at}`, { data: row(`S${at}`, "1") }]));
  let looked = 0;
  const view = { ...VIEW, sort: (data, key) => (looked++, [data.symbol, key]) };
  const order = new Order();
  const before = order.arrange({ ...ASKED, rows, view }, null);
  looked = 0;
  rows.set("k5", { data: row("S5", "2") });
  assert.equal(order.arrange({ ...ASKED, rows, view }, new Set(["k5"])), before);
  assert.equal(looked, 1);
});

// A journal of events 1 to `head`, every thousandth of them of the row.
function journal(head, { wholeFrom = 0 } = {}) {
  const asks = [];
  const ask = async ({ after, to, limit }) => {
    asks.push(after);
    const [from, end] = [after, to].map((each) => Number(each.split(":")[1]));
    const events = [];
    let seq = Math.max(from, wholeFrom);
    while (seq < Math.min(end, head) && events.length < limit) {
      seq++;
      events.push({ seq, key: seq % 1000 === 0 ? "row" : "other", timestamp: seq });
    }
    const more = seq < Math.min(end, head);
    return { events, position: `e:${seq}`, more, gap: from < wholeFrom ? { fromSeq: from + 1, toSeq: wholeFrom } : null };
  };
  return { ask, asks };
}

test("the history of a row goes back as far as the journal does", async () => {
  const { ask } = journal(130_000);
  const history = new RowHistory({ ask, key: "row", head: "e:130000" });
  await history.earlier();
  assert.deepEqual([history.events.length, history.whole], [20, false]);
  while (!history.whole) await history.earlier();
  assert.deepEqual(history.events.map(({ seq }) => seq), Array.from({ length: 130 }, (_, at) => (at + 1) * 1000));
  assert.equal(history.trimmed, false);
});

test("a row that was quiet for long is found without being asked again", async () => {
  const { ask } = journal(300_000);
  const quiet = async (page) => {
    const found = await ask(page);
    return { ...found, events: found.events.map((event) => (event.seq > 5000 ? { ...event, key: "other" } : event)) };
  };
  const history = new RowHistory({ ask: quiet, key: "row", head: "e:300000" });
  await history.earlier();
  assert.deepEqual(history.events.map(({ seq }) => seq), [1000, 2000, 3000, 4000, 5000]);
});

test("what the journal has trimmed is said, and not asked for for ever", async () => {
  const { ask } = journal(30_000, { wholeFrom: 25_500 });
  const history = new RowHistory({ ask, key: "row", head: "e:30000" });
  await history.earlier();
  assert.deepEqual([history.events.map(({ seq }) => seq), history.whole, history.trimmed], [[26000, 27000, 28000, 29000, 30000], true, true]);
  assert.equal(history.since, 25_501);
});

test("a time is told in the zone that is wanted, and names it where zones differ", () => {
  const noon = Date.UTC(2026, 10, 27, 12, 0, 0);
  setZone("UTC");
  assert.equal(time(noon, noon, "NYSE"), "12:00:00");
  setZone("exchange");
  assert.equal(time(noon, noon, "NYSE"), "07:00:00 GMT-5");
  assert.equal(time(noon, noon, "xetra"), "13:00:00 CET");
  assert.equal(time(noon, noon, "BINANCE"), "12:00:00 UTC");
  assert.equal(time(noon, noon), "12:00:00");
  assert.equal(time(Date.UTC(2026, 10, 27, 2), noon, "NYSE"), "26 Nov 21:00:00 GMT-5");
  setZone("local");
});
