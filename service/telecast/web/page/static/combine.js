// Lines of several traders as one line, exactly: no float is added to another.

import { thinned } from "./lines.js";

const MOST_POINTS = 10_000; // that are added up at once

function places(text) {
  const dot = text.indexOf(".");
  return dot < 0 ? 0 : text.length - dot - 1;
}

function unitsOf(text, scale) {
  const [whole, rest = ""] = text.split(".");
  return BigInt(whole + rest.padEnd(scale, "0"));
}

function textOf(units, scale) {
  const digits = (units < 0n ? -units : units).toString().padStart(scale + 1, "0");
  const cut = digits.length - scale;
  return (units < 0n ? "-" : "") + digits.slice(0, cut) + (scale ? `.${digits.slice(cut)}` : "");
}

// `lines` are lists of [ms, number, decimal text] in order, of one currency. Before its first value a
// trader counts with it, so that nobody's coming is a profit. `kind` is what is made of the sum:
// "total"; "day", what it gained since `since`; "drawdown", how far it is below its best.
export function combine(lines, kind = "total", since = -Infinity) {
  const some = lines.filter((line) => line.length);
  if (!some.length) return [];
  const most = Math.max(20, Math.floor(MOST_POINTS / some.length / 2));
  let scale = 0;
  const parts = some.map((line) => {
    const part = thinned(line, most);
    for (const [, , text] of part) scale = Math.max(scale, places(text));
    return part;
  });
  let total = 0n;
  const changes = []; // [ms, by how much]
  for (const part of parts) {
    let before = unitsOf(part[0][2], scale);
    total += before;
    for (const [at, , text] of part) {
      const units = unitsOf(text, scale);
      changes.push([at, units - before]);
      before = units;
    }
  }
  changes.sort(([a], [b]) => a - b);
  const found = [];
  let base = null;
  let best = total;
  for (const [at, by] of changes) {
    if (at >= since && base === null) base = total; // how the day began
    total += by;
    if (total > best) best = total;
    if (at < since) continue;
    const units = kind === "day" ? total - base : kind === "drawdown" ? total - best : total;
    const text = textOf(units, scale);
    if (found.at(-1)?.[0] === at) found.pop();
    found.push([at, Number(text), text]);
  }
  return found;
}
