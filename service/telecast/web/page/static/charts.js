// What is drawn over time: prices with entries and stops, candles, open P&L by currency, and net
// profit, its drawdown and the P&L of the day, of a trader or of all in one currency.
// Lines are filled from the history at load and go on with the stream.

import { States, rowIsFresh } from "../client/telecast.js";
import { Candles } from "./candles.js";
import { combine } from "./combine.js";
import { Lines } from "./lines.js";
import { earnedIn, holder, trails } from "./channels.js";
import { button, make, options, set } from "./dom.js";
import { dayStart, decimal, time } from "./format.js";
import { Plot } from "./plot.js";
import { T } from "./texts.js";

const EVERY_MS = 1000;
const HISTORY = 20_000; // of the newest events of a channel
const FIRST_PAGES = 10; // of a channel, at load
const DEEP_PAGES = 120; // of what one line is made of, once somebody asks for a longer range
const EVE_MS = 3600_000; // before the day: what a trader had when it began
const SHORT_SECONDS = 86_400; // of that the past is read at load
const SOURCE = { price: "market-data", candles: "candles", pnl: "positions" }; // else trader-status

export class Charts {
  #lines = new Lines();
  #candles = new Candles();
  #currencies = new Map(); // trader -> what its profit is in, or null: not known
  #hole = null; // [from, to]: more events than are read at load
  #round = 0; // a fill that another filter has overtaken
  #drawnAt = 0;
  #known = "";
  #read = null;
  #deep = new Set(); // which ranges of which lines were read
  #reading = false;
  #chosen = null; // what somebody chose; else the open P&L, as soon as there is any

  // `held()` is what the positions add up to; `traderName(id)` is a name, or undefined.
  constructor({ panel, rows, held, traderName }) {
    Object.assign(this, { rows, held, traderName });
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
      this.#deepen();
    });
  }

  #zoom(seconds) {
    this.seconds = seconds;
    for (const each of this.range.children) each.setAttribute("aria-pressed", String(Number(each.dataset.seconds) === seconds));
    this.render(Infinity);
    this.#deepen();
  }

  observe(event) {
    this.#lines.observe(event);
    if (event.channel === "candles") this.#candles.observe(event);
    if (event.channel === "trader-status" && event.op === "upsert") this.#currencies.set(event.key, earnedIn(event.data));
  }


  // Other rows are wanted.
  forget() {
    this.#round++;
    this.#lines = new Lines();
    this.#candles = new Candles();
    this.#currencies.clear();
    this.#hole = null;
    this.#deep.clear();
  }

  // What the chosen line is made of: its channel, and its row where it is that of one.
  get source() {
    const [kind, ...rest] = this.what.value.split(" ");
    return { kind, key: rest.join(" "), channel: SOURCE[kind] ?? "trader-status" };
  }

  profitOf(trader) {
    return this.#lines.of(`profit ${trader}`).slice(-60).map(([, value]) => value);
  }

  // The newest events of the channels that lines are made of, and of the traders those of the day.
  // `read(channel, {parts, more})` reads the past with the filter that holds, narrowed by `more`.
  async fill(read, head, visible, now) {
    this.#read = read;
    const [epoch, seq] = head.split(":");
    const newest = { after: `${epoch}:${Math.max(0, Number(seq) - HISTORY)}`, to: head, pages: FIRST_PAGES };
    const day = { after: new Date(dayStart(now) - EVE_MS).toISOString(), pages: FIRST_PAGES };
    for (const channel of ["market-data", "positions", "candles", "trader-status"].filter((each) => visible(each))) {
      const parts = channel === "trader-status" ? [day, newest] : [newest];
      if (!(await this.#take(channel, { parts }))) return;
    }
  }

  // Whether it still counts.
  async #take(channel, wanted) {
    const round = this.#round;
    const { lines, candles, trails: older, currencies, hole } = await this.#read(channel, wanted);
    if (round !== this.#round) return false;
    this.#lines.before(new Lines(lines));
    this.#candles.merge(candles);
    trails.merge(older);
    for (const [trader, currency] of currencies) if (!this.#currencies.has(trader)) this.#currencies.set(trader, currency);
    if (hole !== null) this.#hole = hole;
    this.render(Infinity);
    return true;
  }

  // A longer range than was read: the rest of what the chosen line is made of, once.
  async #deepen() {
    const { kind, key, channel } = this.source;
    const wanted = `${this.seconds} ${this.what.value}`;
    if (this.seconds <= SHORT_SECONDS || kind === "pnl" || !this.#read || this.#deep.has(wanted)) return;
    this.#deep.add(wanted);
    const now = Date.now() + (this.about?.offset ?? 0);
    const row = this.rows(channel).get(key)?.data;
    const more = kind.startsWith("all-") ? {} : narrowest(channel, key, row);
    this.#reading = true;
    this.render(Infinity);
    try {
      const after = new Date(now - this.seconds * 1000).toISOString();
      await this.#take(channel, { parts: [{ after, pages: DEEP_PAGES }], more });
    } catch {
      this.#deep.delete(wanted);
    }
    this.#reading = false;
    this.render(Infinity);
  }

  // The open P&L is no channel: it is what the positions add up to, now and then, by the service's
  // clock. What is not live any more draws no line.
  #sample(now) {
    const { known, totals } = this.held();
    if (known) for (const [currency, total] of totals) this.#lines.add(`pnl ${currency}`, now, total);
  }

  // `about` has the freshness of each channel: {states, staleAfter(channel), offset, whole}.
  render(now, about = this.about) {
    this.about = about;
    if (now !== Infinity && now - this.#drawnAt < EVERY_MS) return;
    if (now !== Infinity && about.whole("positions") && about.states.get("positions").state === States.LIVE) this.#sample(now + about.offset);
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
    const notes = this.#reading ? [T.charts.reading] : [];
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
      const who = holder(data, this);
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
      const currency = trader?.symbol ? ` (${earnedIn(trader)})` : "";
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

// The filter that leaves as little as can be of a channel's events with those of one row.
function narrowest(channel, key, row) {
  if (channel === "trader-status") return { traderId: [key] };
  const fields = ["symbol", "exchange", "interval"].filter((field) => typeof row?.[field] === "string");
  return Object.fromEntries(fields.map((field) => [field, [row[field]]]));
}
