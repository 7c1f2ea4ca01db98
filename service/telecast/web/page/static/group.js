// Groups of rows with totals. Different currencies are never added, and no float is on the way.

import { count, decimal, shorten, sum } from "./format.js";
import { T } from "./texts.js";

// Exact totals by currency: [[currency, total], ...]. Where a symbol does not say its currency, the
// symbol stands for it, so that it is added to nothing else.
export function totals(rows, { field, currency }) {
  const found = new Map();
  for (const row of rows) {
    const name = currency(row) ?? row.symbol ?? T.unknownQuote;
    if (!found.has(name)) found.set(name, []);
    found.get(name).push(row[field]);
  }
  return [...found].map(([name, texts]) => [name, sum(texts)]).sort(([a], [b]) => (a < b ? -1 : 1));
}

// `entries` are [key, row] in order; the groups come in the order of their names.
export function grouped(entries, by, total) {
  const groups = new Map();
  for (const entry of entries) {
    const name = String(by(entry[1]));
    if (!groups.has(name)) groups.set(name, []);
    groups.get(name).push(entry);
  }
  return [...groups]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, members]) => ({ name, members, totals: total ? totals(members.map(([, row]) => row), total) : [] }));
}

export function totalsInWords(found) {
  return found.map(([currency, total]) => `${decimal(shorten(total, 2), { signed: true })} ${currency}`).join(" · ");
}

export function headline({ name, members, totals: found }) {
  return [name, count(members.length), totalsInWords(found)].filter(Boolean).join("  ·  ");
}
