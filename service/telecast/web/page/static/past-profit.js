// What the positions added up to in the past, by currency, from their events. Pure.
//
// It holds: a row whose last change is older than the first event that was read was as it is all the
// while. Of any other row nothing is known before its first event, unless it was opened after the
// reading begins. So a line begins with the moment from which every row is known; where the history is
// whole that is its beginning (tests/unit/page/charts.test.mjs).

import { VIEWS } from "./channels.js";
import { Lines } from "./lines.js";
import { Totals, currencyOf } from "./tally.js";

const ABOUT = VIEWS.positions.total;

// `rows` are those of a snapshot, {key, seq, data}; `events` go on at least to its position; `whole`
// says that nothing was before them. Returns Lines with a line `pnl CURRENCY` for each.
export function pastProfit(rows, events, whole) {
  const lines = new Lines();
  if (!events.length) return lines;
  const [{ seq: first, timestamp: began }] = events;
  const held = new Map(); // key -> row
  const totals = new Totals(ABOUT);
  const put = (key, row) => {
    const before = held.get(key);
    if (before !== undefined) totals.remove(before);
    held.delete(key);
    if (row === undefined) return;
    held.set(key, row);
    totals.add(row);
  };
  for (const { key, seq, data } of rows) if (seq < first) put(key, data);
  for (const [currency, total] of totals.entries()) lines.add(`pnl ${currency}`, began, total);
  const seen = new Set(held.keys());
  let since = began;
  for (const { key, op, data, timestamp } of events) {
    if (!seen.has(key)) {
      seen.add(key);
      if (!whole && !(Date.parse(data?.openedAt) >= began)) since = timestamp;
    }
    const touched = [held.get(key), op === "delete" ? undefined : data].filter(Boolean).map((row) => currencyOf(row, ABOUT));
    put(key, op === "delete" ? undefined : data);
    for (const currency of new Set(touched)) {
      const total = totals.of(currency);
      if (total !== null) lines.add(`pnl ${currency}`, timestamp, total);
    }
  }
  lines.from(since);
  return lines;
}
