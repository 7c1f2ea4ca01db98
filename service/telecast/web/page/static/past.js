// What charts are filled with from the history, as levels of detail that are few enough to draw. This
// runs in a worker (past-worker.js), so that a month of events parses and adds up beside the page.

import { Candles } from "./candles.js";
import { earnedIn } from "./channels.js";
import { Lines } from "./lines.js";
import { pastProfit } from "./past-profit.js";
import { Trails } from "./spark.js";

const PAGE = 5000;
const MOST_PAGES = 20; // of a snapshot

// What the positions added up to: `parts` has one part. Where not all of it can be read there is no line.
export async function readProfit({ ask, snapshot, parts: [{ after, pages }] }) {
  const rows = [];
  let cursor = null;
  for (let page = 0; page === 0 || cursor; page++) {
    if (page === MOST_PAGES) return found({});
    const part = await snapshot({ limit: PAGE, cursor });
    rows.push(...part.rows);
    cursor = part.more ? part.cursor : null;
  }
  const events = [];
  let place = after;
  let whole = seqOf(after) === 0;
  for (let page = 0, more = true; more; page++) {
    if (page === pages) return found({});
    const part = await ask({ after: place, limit: PAGE });
    if (part.gap !== null) {
      if (page > 0) return found({});
      whole = false;
    }
    events.push(...part.events);
    ({ more, position: place } = part);
  }
  return found({ lines: pastProfit(rows, events, whole).dump() });
}

function found(parts) {
  return { lines: new Map(), candles: new Map(), trails: new Map(), currencies: new Map(), hole: null, ...parts };
}

// Reads a channel: `parts` are [{after, to, pages}], each read until it is done or has had so
// many pages; `to` is left out where it is the newest. `ask(page)` resolves to a page of events,
// `snapshot(page)` to one of rows. Returns what can be cloned:
// {lines, candles, trails, currencies, hole}; `hole` is [from, to] where events between two parts were left out.
export async function readPast({ ask, snapshot, channel, parts }) {
  if (channel === "positions") return readProfit({ ask, snapshot, parts });
  const lines = new Lines();
  const candles = new Candles();
  const trails = new Trails();
  const currencies = new Map();
  let hole = null;
  const take = (event) => {
    lines.observe(event);
    if (channel === "candles") candles.observe(event);
    if (channel === "market-data" && event.op === "upsert") trails.add(event.key, Number(event.data.price), event.timestamp);
    if (channel === "trader-status" && event.op === "upsert") currencies.set(event.key, earnedIn(event.data));
  };
  for (const [index, { after, to = null, pages }] of parts.entries()) {
    if (index > 0 && hole === null) break; // the part before went on into this one
    const from = hole?.[0];
    let place = after;
    let more = true;
    for (let page = 0; page < pages && more; page++) {
      const answer = await ask({ after: place, to, limit: PAGE });
      for (const event of answer.events) take(event);
      ({ more, position: place } = answer);
    }
    const next = parts[index + 1];
    if (from !== undefined) hole = [from, lines.firstAfter(from)];
    else if (more && next !== undefined && seqOf(place) < seqOf(next.after)) hole = [lines.lastAt(), null];
  }
  return found({ lines: lines.dump(), candles: candles.dump(), trails: trails.dump(), currencies, hole });
}

function seqOf(position) {
  return Number(position.slice(position.indexOf(":") + 1));
}
