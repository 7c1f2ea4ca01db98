// The operator's view: who is connected and how far behind, with a button to cut off; what is
// published; the journal; rates and refusals; who did what. It is what the API of the scope `admin`
// says, asked every two seconds while somebody looks.

import { Refused, States } from "../client/telecast.js";
import { columnChoice } from "./choices.js";
import { button, find, make, say, set } from "./dom.js";
import { bytes, count, span, time } from "./format.js";
import { keyForm } from "./keyring.js";
import { Table } from "./table.js";
import { T } from "./texts.js";

const O = T.operator;
const EVERY_MS = 2000;
const LATE_MS = 3 * EVERY_MS;
const MOST_CLIENTS = 1000;
const MOST_ENTRIES = 30;
const BEHIND_MS = 2000; // from here on a client is shown as late
// Without a key of the scope `admin`; asked for the first time; answered; the last answer was a fault.
const PHASES = Object.freeze({ LOCKED: "locked", LOADING: "loading", KNOWN: "known", FAILED: "failed" });

const number = (id, title, value, show, more = {}) => ({
  id, title, numeric: true, value, cell: (row) => ({ text: show(value(row)) }), ...more,
});

function clientView(cut) {
  return {
    // The worst first: who is not live, then who is most behind.
    sort: (row, key) => [row.state === "live" ? 1 : 0, -(row.lagMs ?? 0), row.principal, key],
    columns: [
      {
        id: "who", title: O.who, name: "first", value: (row) => row.principal,
        cell: (row) => ({ text: row.principal, sub: [row.clientId, row.address].filter(Boolean).join(" · "), title: row.userAgent ?? "" }),
      },
      {
        id: "state", title: O.state, value: (row) => row.state,
        cell: (row) => ({ text: O.states[row.state] ?? row.state, chip: true, tone: row.state === "live" ? (row.lagMs > BEHIND_MS ? "warn" : "good") : "bad" }),
      },
      number("lag", O.lag, (row) => row.lagMs ?? 0, (ms) => span(ms)),
      number("events", O.lagEvents, (row) => row.lagEvents ?? 0, count, { wide: true }),
      { id: "transport", title: O.transport, value: (row) => row.transport, cell: (row) => ({ text: row.transport.toUpperCase() }), mid: true },
      number("unsent", O.unsent, (row) => row.unsentBytes ?? 0, bytes, { wide: true }),
      number("conflated", O.conflated, (row) => row.conflated ?? 0, count, { wide: true }),
      number("since", O.connected, (row) => row.seconds, (seconds) => span(Math.round(seconds) * 1000), { mid: true }),
      { id: "channels", title: O.channels, extra: true, value: (row) => Object.keys(row.channels).length, cell: (row) => ({ text: Object.keys(row.channels).join(", ") || "–" }) },
      { id: "delivery", title: O.delivery, extra: true, value: (row) => row.delivery ?? "", cell: (row) => ({ text: row.delivery ?? "–" }) },
      { id: "node", title: O.node, extra: true, value: (row) => row.node ?? "", cell: (row) => ({ text: row.node ?? "–" }) },
      { id: "act", title: T.columns.act, name: "act", create: (context, key) => button(O.cut, () => cut(key), "cut"), update: (element, row) => element.setAttribute("aria-label", O.cutOff(row.principal)) },
    ],
  };
}

const CHANNEL_VIEW = {
  sort: (row, key) => [row.stale ? 0 : 1, key],
  columns: [
    { id: "channel", title: O.channel, name: "first", value: (row) => row.name, cell: (row) => ({ text: row.name }) },
    {
      id: "stale", title: O.publishers, value: (row) => (row.stale ? 0 : 1),
      cell: (row) => (row.lastEventAt === null ? { text: O.never, tone: "faint" } : { text: row.stale ? O.stale : O.fresh, chip: true, tone: row.stale ? "bad" : "good" }),
    },
    number("age", O.last, (row) => row.ageSeconds ?? Infinity, (age) => (Number.isFinite(age) ? O.ago(span(Math.round(age) * 1000)) : "–")),
    number("rate", O.published, (row) => row.rate ?? -1, (rate) => (rate < 0 ? "–" : rate.toFixed(1))),
    number("rows", O.rows, (row) => row.rows ?? -1, (rows) => (rows < 0 ? "–" : count(rows))),
    number("subscribers", O.subscribers, (row) => row.subscribers, count),
  ],
};

export class Operator {
  #phase = PHASES.LOCKED;
  #clients = new Map();
  #channels = new Map();
  #stats = null; // {at, data}: the last answer; null: none yet
  #rates = null;
  #askedAt = 0;
  #answeredAt = 0; // when the figures that are shown were had
  #asking = false;
  #cutting = ""; // the connection that the dialog is about

  constructor({ panel, keyring, prefs, changed }) {
    Object.assign(this, { panel, keyring, changed });
    const body = panel.body.appendChild(make("div", "operator"));
    body.append(keyForm(keyring, "admin", O.why));
    this.view = body.appendChild(make("div", "operator-view"));
    this.fault = this.view.appendChild(make("p", "fault"));
    this.figures = this.view.appendChild(make("dl", "op-figures"));
    const titled = (id, title) => {
      const heading = this.view.appendChild(make("h3", "", title));
      heading.id = `${id}-title`;
    };
    const table = (id, title, view) => {
      titled(id, title);
      const made = new Table({ id, view, prefs, context: {}, open: () => {}, changed });
      this.view.append(made.element);
      return made;
    };
    this.clients = table("op-clients", O.clients, clientView((id) => this.#ask(id)));
    this.missing = this.view.appendChild(make("p", "fault"));
    this.more = this.view.appendChild(make("p", "quiet"));
    this.channels = table("op-channels", O.publishing, CHANNEL_VIEW);
    titled("op-audit", O.audit);
    this.entries = this.view.appendChild(make("ol", "history"));
    columnChoice(panel, this.clients, this.clients.view, prefs, changed);
    keyring.onchange(() => this.#keyChanged());
    this.dialog = find("cut");
    this.dialog.querySelector("form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.dialog.close();
      this.#cut();
    });
    find("cut-cancel").addEventListener("click", () => this.dialog.close());
  }

  // What another key was shown is not this one's to see.
  #keyChanged() {
    this.#phase = this.keyring.may("admin") ? PHASES.LOADING : PHASES.LOCKED;
    this.#askedAt = 0;
    this.#stats = this.#rates = null;
    this.#clients = new Map();
    this.#channels = new Map();
    this.clients.follow(this.#clients, null);
    this.channels.follow(this.#channels, null);
    this.figures.replaceChildren();
    this.entries.replaceChildren();
    for (const words of [this.fault, this.missing, this.more]) set(words, "");
    this.changed();
  }

  search(text) {
    this.clients.search(text);
  }

  // --- cutting off

  #ask(id) {
    const row = this.#clients.get(id)?.data;
    if (row === undefined) return;
    this.#cutting = id;
    set(find("cut-what"), O.cutWhat(row.principal, row.clientId, row.address, row.transport.toUpperCase()));
    find("cut-reason").value = "";
    find("cut-ban").value = "";
    this.dialog.showModal();
  }

  async #cut() {
    const query = new URLSearchParams();
    const reason = find("cut-reason").value.trim();
    const ban = find("cut-ban").value;
    if (reason) query.set("reason", reason);
    if (ban) query.set("ban", ban);
    try {
      const { kicked, missing = {} } = await this.keyring.client.call("DELETE", `/api/v1/clients/${encodeURIComponent(this.#cutting)}?${query}`);
      if (kicked) say(O.wasCut);
      else say(O.notCut(O.noAnswer(Object.keys(missing)) || O.gone), { urgent: true });
      this.#askedAt = 0;
      this.changed();
    } catch (fault) {
      say(O.notCut(fault.message), { urgent: true });
    }
  }

  // --- asking

  async #poll(now) {
    this.#asking = true;
    this.#askedAt = now;
    const { client } = this.keyring;
    try {
      const [clients, stats, audit] = await Promise.all([
        client.call("GET", `/api/v1/clients?limit=${MOST_CLIENTS}`), client.answer("GET", "/api/v1/stats"),
        client.call("GET", `/api/v1/audit?limit=${MOST_ENTRIES}`),
      ]);
      if (client !== this.keyring.client) return;
      this.#take(clients, stats, audit);
      this.#answeredAt = Date.now();
      this.#phase = PHASES.KNOWN;
      set(this.fault, "");
    } catch (fault) {
      if (client !== this.keyring.client) return;
      this.#phase = PHASES.FAILED;
      set(this.fault, O.failed(fault.message));
      if (fault instanceof Refused && [401, 403].includes(fault.status)) this.keyring.forget();
    } finally {
      this.#asking = false;
      this.changed();
    }
  }

  // `missing`: nodes that did not answer, whose clients are not in the list.
  #take({ clients, more, missing = {} }, stats, { entries }) {
    this.#clients = new Map(clients.map((row) => [row.connectionId, { seq: 0, at: stats.at, data: row }]));
    this.clients.follow(this.#clients, null);
    set(this.missing, O.noAnswer(Object.keys(missing)));
    set(this.more, more ? O.more(count(MOST_CLIENTS)) : "");
    this.#rates = this.#ratesOf(stats);
    const { channels, totals } = stats.data;
    const before = this.#stats?.data.totals?.published;
    const seconds = this.#stats ? (stats.at - this.#stats.at) / 1000 : 0;
    this.#channels = new Map(Object.entries(channels).map(([name, row]) => {
      const known = totals && before && seconds > 0 && totals.published[name] >= before[name];
      const rate = known ? (totals.published[name] - before[name]) / seconds : null;
      return [name, { seq: 0, at: stats.at, data: { name, rate, ...row } }];
    }));
    this.channels.follow(this.#channels, null);
    this.#stats = stats;
    this.#fill(stats.data);
    this.entries.replaceChildren(...entries.map(({ at, principal, action, target }) => {
      const li = make("li");
      li.append(make("span", "at", time(at)), make("span", "op", action), make("span", "", [principal, target].filter(Boolean).join(": ")));
      return li;
    }));
    if (!entries.length) this.entries.append(make("li", "quiet", O.noEntries));
  }

  // What happened in a second, between two answers of one process.
  #ratesOf({ at, data }) {
    const before = this.#stats;
    if (!data.totals || !before?.data.totals || before.data.startedAt !== data.startedAt || at <= before.at) return null;
    const seconds = (at - before.at) / 1000;
    const sum = (published) => Object.values(published).reduce((total, each) => total + each, 0);
    const gained = (name) => (data.totals[name] - before.data.totals[name]) / seconds;
    return {
      published: (sum(data.totals.published) - sum(before.data.totals.published)) / seconds,
      delivered: gained("delivered"), conflated: gained("conflated"), sentBytes: gained("sentBytes"),
    };
  }

  #fill({ version, startedAt, ready, checks, connections, head, publishing, totals, journal }) {
    const wrong = Object.entries(checks).filter(([, why]) => why !== null).map(([name, why]) => `${name}: ${why}`);
    const rates = this.#rates;
    const codes = (found) => Object.entries(found ?? {}).filter(([, each]) => each).map(([code, each]) => `${code} ${count(each)}`).join(", ") || O.none;
    const facts = [
      [O.service, O.since(version, time(startedAt))],
      [O.ready, ready ? O.yes : wrong.join("; ") || O.no, ready ? "gain" : "loss"],
      [O.connections, O.connectionsOf(connections), connections.full || connections.behind ? "loss" : ""],
      [O.journal, [head, journal?.fileBytes ? bytes(journal.fileBytes + journal.logBytes) : "", publishing ? O.backlog(count(publishing.backlogEvents)) : ""].filter(Boolean).join(" · ")],
      [O.rates, rates ? O.ratesOf(rates.published.toFixed(1), rates.delivered.toFixed(1), rates.conflated.toFixed(1), bytes(rates.sentBytes)) : "–"],
      [O.refused, totals ? codes(totals.refused) : "–"],
      [O.evicted, totals ? codes(totals.evicted) : "–"],
    ];
    this.figures.replaceChildren(...facts.flatMap(([name, text, tone]) => {
      const dd = make("dd", "", text);
      dd.dataset.tone = tone ?? "";
      return [make("dt", "", name), dd];
    }));
  }

  // --- drawing

  render(now) {
    if (this.panel.section.hidden) return;
    const locked = this.#phase === PHASES.LOCKED;
    this.view.hidden = locked;
    if (!locked && !this.#asking && !document.hidden && now - this.#askedAt >= EVERY_MS) this.#poll(now);
    const said = this.#freshness(now);
    this.panel.state(said, now);
    set(this.panel.count, this.#stats === null ? "" : count(this.#stats.data.connections.total));
    if (locked) return;
    for (const table of [this.clients, this.channels]) table.render({ state: said, staleAfter: null, now, offset: 0 });
  }

  #freshness(now) {
    if (this.#phase === PHASES.LOCKED) return { state: States.NOT_VISIBLE };
    if (this.#stats === null) return { state: States.LOADING, level: "amber", age: null };
    const late = now - this.#answeredAt;
    if (this.#phase === PHASES.FAILED) return { state: States.RECONNECTING, level: "amber", age: null };
    if (late > LATE_MS) return { state: States.DELAYED, level: "amber", age: null, delay: late };
    return { state: States.LIVE, level: "", age: null };
  }
}
