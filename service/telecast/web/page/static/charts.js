// What is drawn over time: prices with entries and stops, candles, open P&L by currency, and net
// profit, its drawdown and the P&L of the day, of a trader or of all in one currency.
// Lines are filled from the history at load and go on with the stream.

import { States, rowIsFresh } from "../client/telecast.js";
import { Candles } from "./candles.js";
import { combine } from "./combine.js";
import { trails } from "./channels.js";
import { button, make, options, set } from "./dom.js";
import { dayStart, decimal, quoteOf, time } from "./format.js";
import { Plot } from "./plot.js";
import { T } from "./texts.js";

const MOST_POINTS = 20_000; // of one line; then every other one is left out
const MOST_LINES = 500;
const EVERY_MS = 1000;
const HISTORY = 20_000; // of the newest events of a channel
const PAGE = 5000;
const MOST_PAGES = 10;
const EVE_MS = 3600_000; // before the day: what a trader had when it began
const SOURCE = { price: "market-data", candles: "candles", pnl: "positions" }; // else trader-status

class Lines {
  #lines = new Map(); // name -> [[ms, number, decimal text], ...]

  add(name, at, text) {
    const value = Number(text ?? NaN);
    if (!Number.isFinite(value)) return;
    let line = this.#lines.get(name);
    if (line === undefined) {
      if (this.#lines.size >= MOST_LINES) return;
      this.#lines.set(name, (line = []));
    }
    const last = line.at(-1);
    // The first stays as it was: the P&L of the day is counted from it.
    if (line.length > 1 && at - last[0] < EVERY_MS / 4) [last[1], last[2]] = [value, text];
    else line.push([at, value, text]);
    if (line.length > MOST_POINTS) this.#lines.set(name, line.filter((_, index) => index % 2));
  }

  // Older points before those that the stream brought meanwhile.
  before(older) {
    for (const [name, points] of older.#lines) {
      const newer = this.#lines.get(name) ?? [];
      const first = newer[0]?.[0] ?? Infinity;
      this.#lines.set(name, [...points.filter(([at]) => at < first), ...newer]);
    }
  }

  of(name) {
    return this.#lines.get(name) ?? [];
  }

  names() {
    return [...this.#lines.keys()];
  }

  lastAt() {
    return Math.max(...[...this.#lines.values()].map((line) => line.at(-1)[0]));
  }

  firstAfter(instant) {
    return Math.min(...[...this.#lines.values()].map((line) => line.find(([at]) => at > instant)?.[0] ?? Infinity));
  }
}

function observe(lines, { channel, op, key, data, timestamp }) {
  if (op === "delete") return;
  if (channel === "market-data") lines.add(`price ${key}`, timestamp, data.price);
  if (channel === "trader-status" && data.metrics) lines.add(`profit ${key}`, timestamp, data.metrics.netProfit);
}

export class Charts {
  #lines = new Lines();
  #candles = new Candles();
  #currencies = new Map(); // trader -> what its profit is in, or null: not known
  #hole = null; // [from, to]: more events than are read at load
  #round = 0; // a fill that another filter has overtaken
  #drawnAt = 0;
  #known = "";
  #chosen = null; // what somebody chose; else the open P&L, as soon as there is any

  // `held()` is what the positions add up to.
  constructor(panel, rows, held) {
    Object.assign(this, { rows, held });
    this.what = panel.tools.appendChild(make("select"));
    this.what.id = "chart-what";
    this.what.setAttribute("aria-label", T.charts.what);
    this.range = panel.tools.appendChild(make("span", "ranges"));
    this.range.setAttribute("role", "group");
    this.range.setAttribute("aria-label", T.charts.range);
    this.seconds = 0;
    for (const [seconds, word] of Object.entries(T.charts.ranges)) {
      const choose = this.range.appendChild(button(word, () => this.#zoom(Number(seconds))));
      choose.setAttribute("aria-pressed", String(Number(seconds) === this.seconds));
      choose.dataset.seconds = seconds;
    }
    this.empty = panel.body.appendChild(make("p", "empty quiet", T.charts.nothing));
    this.plot = new Plot(T.charts.label);
    this.note = make("p", "quiet chart-note");
    panel.body.append(this.plot.element, this.note);
    this.what.addEventListener("change", () => {
      this.#chosen = this.what.value;
      this.render(Infinity);
    });
  }

  #zoom(seconds) {
    this.seconds = seconds;
    for (const each of this.range.children) each.setAttribute("aria-pressed", String(Number(each.dataset.seconds) === seconds));
    this.render(Infinity);
  }

  observe(event) {
    this.#observe(this.#lines, event);
  }

  #observe(lines, event) {
    observe(lines, event);
    if (event.channel === "candles") this.#candles.observe(event);
    if (event.channel === "trader-status" && event.op === "upsert") {
      const { symbol } = event.data;
      this.#currencies.set(event.key, symbol ? quoteOf(symbol) ?? symbol : null);
    }
  }

  // Other rows are wanted.
  forget() {
    this.#round++;
    this.#lines = new Lines();
    this.#candles = new Candles();
    this.#currencies.clear();
    this.#hole = null;
  }

  // What the chosen line is made of: its channel, and its row where it is that of one.
  get source() {
    const [kind, ...rest] = this.what.value.split(" ");
    return { kind, key: rest.join(" "), channel: SOURCE[kind] ?? "trader-status" };
  }

  profitOf(trader) {
    return this.#lines.of(`profit ${trader}`).slice(-60).map(([, value]) => value);
  }

  // The newest events of the channels that lines are made of, page by page; of the traders those of
  // the day. `history(channel, page)` asks with the filter that holds.
  async fill(history, head, visible, now) {
    const round = this.#round;
    const [epoch, seq] = head.split(":");
    const newest = `${epoch}:${Math.max(0, Number(seq) - HISTORY)}`;
    for (const channel of ["market-data", "candles", "trader-status"].filter((each) => visible(each))) {
      const older = new Lines();
      const pages = async (after) => {
        for (let page = 0; page < MOST_PAGES; page++) {
          const found = await history(channel, { after, limit: PAGE });
          if (round !== this.#round) return null;
          for (const event of found.events) {
            this.#observe(older, event);
            if (channel === "market-data" && event.op === "upsert") trails.add(event.key, Number(event.data.price), event.timestamp);
          }
          if (!found.more) return null;
          after = found.position;
        }
        return after;
      };
      const left = await pages(channel === "trader-status" ? new Date(dayStart(now) - EVE_MS).toISOString() : newest);
      if (left !== null && channel === "trader-status" && Number(left.split(":")[1]) < Number(newest.split(":")[1])) {
        const from = older.lastAt();
        await pages(newest);
        this.#hole = [from, older.firstAfter(from)];
      }
      if (round !== this.#round) return;
      this.#lines.before(older);
    }
    this.render(Infinity);
  }

  // The open P&L is no channel: it is what the positions add up to, now and then. What is not live
  // any more draws no line.
  #sample(now) {
    for (const [currency, total] of this.held().totals) this.#lines.add(`pnl ${currency}`, now, total);
  }

  // `about` has the freshness of each channel: {states, staleAfter(channel), offset, whole}.
  render(now, about = this.about) {
    this.about = about;
    if (now !== Infinity && now - this.#drawnAt < EVERY_MS) return;
    if (now !== Infinity && about.whole("positions") && about.states.get("positions").state === States.LIVE) this.#sample(now);
    this.#drawnAt = now === Infinity ? 0 : now;
    this.#offer();
    const { kind, key, channel } = this.source;
    const clock = (now === Infinity ? Date.now() : now) + (about?.offset ?? 0);
    const state = about?.states.get(channel)?.state;
    const candles = kind === "candles" ? this.#inRange(this.#candles.of(key), ({ at }) => at) : null;
    const points = candles ? [] : this.#inRange(this.#points(kind, key, clock), ([at]) => at);
    const seen = state !== States.NOT_VISIBLE && (candles ?? points).length > 1;
    this.empty.hidden = seen;
    this.plot.element.hidden = !seen;
    this.#say(kind, points, clock);
    const row = this.rows(channel).get(key);
    const old = row !== undefined && !rowIsFresh(state, row.at, about?.staleAfter(channel) ?? null, clock - (about?.offset ?? 0), about?.offset ?? 0);
    this.plot.element.toggleAttribute("data-stale", old || state !== States.LIVE);
    const money = kind !== "price";
    const tone = kind.endsWith("drawdown") ? "loss" : money ? (points.at(-1)?.[1] < 0 ? "loss" : "gain") : "calm";
    const title = this.what.selectedOptions[0]?.textContent ?? "";
    this.plot.show({ points, candles, title, tone, zero: money && !candles, levels: kind === "price" ? this.#levels(key) : [] });
  }

  #inRange(entries, at) {
    if (!this.seconds || !entries.length) return entries;
    const from = at(entries.at(-1)) - this.seconds * 1000;
    return entries.filter((each) => at(each) >= from);
  }

  #points(kind, key, now) {
    const all = kind.startsWith("all-");
    const which = all ? kind.slice(4) : kind;
    if (!all && !["day", "drawdown"].includes(which)) return this.#lines.of(this.what.value);
    const traders = all ? this.#tradersIn(key) : [key];
    return combine(traders.map((trader) => this.#lines.of(`profit ${trader}`)), which, which === "day" ? dayStart(now) : -Infinity);
  }

  #tradersIn(currency) {
    return this.#lines.names().filter((name) => name.startsWith("profit "))
      .map((name) => name.slice("profit ".length)).filter((trader) => this.#currencies.get(trader) === currency);
  }

  // How far the line can be trusted: since when it counts, and where it has a hole.
  #say(kind, points, now) {
    const notes = [];
    const last = points.at(-1);
    if (kind.endsWith("day") && last !== undefined) notes.push(T.charts.counted(decimal(last[2], { signed: true }), time(points[0][0], now)));
    if (this.#hole !== null && !SOURCE[kind]) notes.push(T.charts.hole(...this.#hole.map((at) => time(at, now))));
    set(this.note, notes.join(" "));
    this.note.hidden = !notes.length;
  }

  #levels(key) {
    const price = this.rows("market-data").get(key)?.data;
    if (price === undefined) return [];
    const found = [];
    for (const { data } of this.rows("positions").values()) {
      if (data.symbol !== price.symbol || (data.exchange && price.exchange && data.exchange !== price.exchange)) continue;
      const who = data.traderName ?? data.traderId;
      found.push([`${T.charts.entry} ${who}`, Number(data.entryPrice), data.action === "LONG" ? "gain" : "calm"]);
      if (data.stopLossPrice) found.push([`${T.charts.stop} ${who}`, Number(data.stopLossPrice), "loss"]);
    }
    return found.slice(0, 8);
  }

  #offer() {
    const traders = this.rows("trader-status");
    const entries = this.#lines.names().flatMap((name) => {
      const [kind, ...rest] = name.split(" ");
      const key = rest.join(" ");
      if (kind === "price") return [[name, `${T.charts.price}: ${key}`]];
      if (kind === "pnl") return [[name, `${T.charts.pnl}: ${key}`]];
      const trader = traders.get(key)?.data;
      const who = trader?.name ?? key;
      const currency = trader?.symbol ? ` (${quoteOf(trader.symbol) ?? trader.symbol})` : "";
      return [
        [name, `${T.charts.profit}: ${who}${currency}`], [`drawdown ${key}`, `${T.charts.drawdown}: ${who}${currency}`],
        [`day ${key}`, `${T.charts.day}: ${who}${currency}`],
      ];
    });
    for (const currency of new Set(this.#currencies.values())) {
      if (currency === null || !this.#tradersIn(currency).length) continue;
      for (const what of ["total", "drawdown", "day"]) {
        entries.push([`all-${what} ${currency}`, T.charts.all(what === "total" ? T.charts.profit : T.charts[what], currency)]);
      }
    }
    for (const key of this.#candles.names()) entries.push([`candles ${key}`, `${T.charts.candles}: ${key}`]);
    entries.sort(([, a], [, b]) => (a < b ? -1 : 1));
    const known = entries.map(([, text]) => text).join("\n");
    if (known === this.#known) return;
    this.#known = known;
    const first = entries.find(([name]) => name.startsWith("pnl")) ?? entries[0];
    options(this.what, entries, entries.some(([name]) => name === this.#chosen) ? this.#chosen : first?.[0]);
  }
}
