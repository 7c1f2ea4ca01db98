// What charts are filled with from the history, as levels of detail that are few enough to draw. This
// runs in a worker (past-worker.js), so that a month of events parses and adds up beside the page.

import { Candles } from "./candles.js";
import { quoteOf } from "./format.js";
import { Lines } from "./lines.js";
import { Trails } from "./spark.js";

const PAGE = 5000;

// Reads a channel: `parts` are [{after, to, pages}], each read until it is done or has had so
// many pages; `to` is left out where it is the newest. `ask(page)` resolves to a page of events. Returns what can be cloned:
// {lines, candles, trails, currencies, hole}; `hole` is [from, to] where events between two parts were left out.
export async function readPast({ ask, channel, parts }) {
  const lines = new Lines();
  const candles = new Candles();
  const trails = new Trails();
  const currencies = new Map();
  let hole = null;
  const take = (event) => {
    lines.observe(event);
    if (channel === "candles") candles.observe(event);
    if (channel === "market-data" && event.op === "upsert") trails.add(event.key, Number(event.data.price), event.timestamp);
    if (channel === "trader-status" && event.op === "upsert") currencies.set(event.key, currencyOf(event.data));
  };
  for (const [index, { after, to = null, pages }] of parts.entries()) {
    if (index > 0 && hole === null) break; // the part before went on into this one
    const from = hole?.[0];
    let place = after;
    let more = true;
    for (let page = 0; page < pages && more; page++) {
      const found = await ask({ after: place, to, limit: PAGE });
      for (const event of found.events) take(event);
      ({ more, position: place } = found);
    }
    const next = parts[index + 1];
    if (from !== undefined) hole = [from, lines.firstAfter(from)];
    else if (more && next !== undefined && seqOf(place) < seqOf(next.after)) hole = [lines.lastAt(), null];
  }
  return { lines: lines.dump(), candles: candles.dump(), trails: trails.dump(), currencies, hole };
}

// What the profit of a trader is in; null: not known.
export function currencyOf({ symbol }) {
  return symbol ? quoteOf(symbol) ?? symbol : null;
}

function seqOf(position) {
  return Number(position.slice(position.indexOf(":") + 1));
}
