// Groups of rows with totals. Different currencies are never added, and no float is on the way.

import { count, decimal, shorten } from "./format.js";
import { Totals } from "./tally.js";

// Exact totals by currency: [[currency, total], ...]. `about` is as in Totals.
export function totals(rows, about) {
  const found = new Totals(about);
  for (const row of rows) found.add(row);
  return found.entries();
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
