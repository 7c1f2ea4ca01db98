// What is drawn over time: prices with entries and stops, net profit, drawdown, open P&L by currency.
// Lines are filled from the history at load and go on with the stream.

import { totals } from "./group.js";
import { VIEWS, trails } from "./channels.js";
import { button, make, options } from "./dom.js";
import { quoteOf } from "./format.js";
import { Plot, drawdowns } from "./plot.js";
import { T } from "./texts.js";

const MOST_POINTS = 20_000; // of one line; then every other one is left out
const MOST_LINES = 500;
const EVERY_MS = 1000;
const HISTORY = 20_000; // of the newest events of a channel

class Lines {
  #lines = new Map(); // name -> [[ms, value], ...]

  add(name, at, value) {
    if (!Number.isFinite(value)) return;
    let line = this.#lines.get(name);
    if (line === undefined) {
      if (this.#lines.size >= MOST_LINES) return;
      this.#lines.set(name, (line = []));
    }
    const last = line.at(-1);
    if (last !== undefined && at - last[0] < EVERY_MS / 4) last[1] = value;
    else line.push([at, value]);
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
}

function observe(lines, { channel, op, key, data, timestamp }) {
  if (op === "delete") return;
  if (channel === "market-data") lines.add(`price ${key}`, timestamp, Number(data.price));
  if (channel === "trader-status" && data.metrics) lines.add(`profit ${key}`, timestamp, Number(data.metrics.netProfit));
}

export class Charts {
  #lines = new Lines();
  #drawnAt = 0;
  #known = "";
  #chosen = null; // what somebody chose; else the open P&L, as soon as there is any

  constructor(panel, rows) {
    this.rows = rows;
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
    panel.body.append(this.plot.element);
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
    observe(this.#lines, event);
  }

  // The newest events of the two channels that lines are made of, page by page.
  async fill(client, head, visible) {
    const [epoch, seq] = head.split(":");
    for (const channel of ["market-data", "trader-status"].filter((each) => visible(each))) {
      const older = new Lines();
      let after = `${epoch}:${Math.max(0, Number(seq) - HISTORY)}`;
      for (let page = 0; page < 10; page++) {
        const found = await client.history(channel, { after, limit: 5000 });
        for (const event of found.events) {
          observe(older, event);
          if (channel === "market-data" && event.op === "upsert") trails.add(event.key, Number(event.data.price), event.timestamp);
        }
        if (!found.more) break;
        after = found.position;
      }
      this.#lines.before(older);
    }
    this.render(Infinity);
  }

  // The open P&L is no channel: it is what the positions add up to, now and then.
  #sample(now) {
    const rows = [...this.rows("positions").values()].map(({ data }) => data);
    for (const [currency, total] of totals(rows, VIEWS.positions.total)) this.#lines.add(`pnl ${currency}`, now, Number(total));
  }

  render(now) {
    if (now !== Infinity && now - this.#drawnAt < EVERY_MS) return;
    if (now !== Infinity) this.#sample(now);
    this.#drawnAt = now === Infinity ? 0 : now;
    this.#offer();
    const [kind, ...rest] = this.what.value.split(" ");
    const key = rest.join(" ");
    let points = this.#lines.of(kind === "drawdown" ? `profit ${key}` : this.what.value);
    if (kind === "drawdown") points = drawdowns(points);
    if (this.seconds) {
      const from = (points.at(-1)?.[0] ?? 0) - this.seconds * 1000;
      points = points.filter(([at]) => at >= from);
    }
    this.empty.hidden = points.length > 1;
    this.plot.element.hidden = points.length < 2;
    const money = kind !== "price";
    const tone = kind === "drawdown" ? "loss" : money ? (points.at(-1)?.[1] < 0 ? "loss" : "gain") : "calm";
    const title = this.what.selectedOptions[0]?.textContent ?? "";
    this.plot.show({ points, title, tone, zero: money, levels: kind === "price" ? this.#levels(key) : [] });
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
      return [[name, `${T.charts.profit}: ${who}${currency}`], [`drawdown ${key}`, `${T.charts.drawdown}: ${who}${currency}`]];
    });
    entries.sort(([, a], [, b]) => (a < b ? -1 : 1));
    const known = entries.map(([, text]) => text).join("\n");
    if (known === this.#known) return;
    this.#known = known;
    const first = entries.find(([name]) => name.startsWith("pnl")) ?? entries[0];
    options(this.what, entries, entries.some(([name]) => name === this.#chosen) ? this.#chosen : first?.[0]);
  }
}
