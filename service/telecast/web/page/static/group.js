// Totals in words. Different currencies are never added, and no float is on the way.

import { count, decimal, shorten } from "./format.js";
import { Totals } from "./tally.js";

// Exact totals by currency: [[currency, total], ...]. `about` is as in Totals.
export function totals(rows, about) {
  const found = new Totals(about);
  for (const row of rows) found.add(row);
  return found.entries();
}

export function totalsInWords(found) {
  return found.map(([currency, total]) => `${decimal(shorten(total, 2), { signed: true })} ${currency}`).join(" · ");
}

// What stands above the rows of a group; `sums` are its Totals.
export function headline(name, sums) {
  return [name, count(sums.count), totalsInWords(sums.entries())].filter(Boolean).join("  ·  ");
}
