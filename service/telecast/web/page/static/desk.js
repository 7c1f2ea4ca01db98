// Puts the page together: one stream in, one table of rows, a few panels, a frame at a time.

import { Client } from "../client/telecast.js";
import { Alerts } from "./alerts.js";
import { KNOWN, VIEWS, observe, tidy } from "./channels.js";
import { Charts } from "./charts.js";
import { Debugger } from "./debug.js";
import { Detail } from "./detail.js";
import { find, set } from "./dom.js";
import { Feed, checkedFilter } from "./feed.js";
import { Frames } from "./frames.js";
import { setZone, zoneName } from "./format.js";
import { Glance } from "./glance.js";
import { Holdings } from "./holdings.js";
import { listenToKeys } from "./keyboard.js";
import { KIOSK, waitForSession } from "./kiosk.js";
import { Keyring } from "./keyring.js";
import { Messages } from "./messages.js";
import { Operator } from "./operator.js";
import { Layout } from "./panel.js";
import { Pulse } from "./pulse.js";
import { PastReader } from "./reader.js";
import { Prefs } from "./prefs.js";
import { Rate } from "./rate.js";
import * as session from "./session.js";
import { Status } from "./status.js";
import { Tables } from "./tables.js";
import { toolbar } from "./toolbar.js";
import { T } from "./texts.js";

const TIDY_MS = 60_000;
const BASE = new URL(".", location.href).href.replace(/\/$/, ""); // the service's address

export class Desk {
  pulse = new Pulse({
    beat: (now) => this.#beat(now), woke: () => this.feed.stream.check(),
    measured: (over) => {
      if (over !== null) this.signedOut(over);
      this.frames.soon();
    },
  });
  clock = this.pulse.clock;
  frames = new Frames(() => this.render());
  rate = new Rate();
  prefs = new Prefs();
  client = new Client(".", { prepare: false }); // by the session; relative, for a prefix
  feed = new Feed({
    client: this.client, clock: this.clock, changed: () => this.frames.next(),
    news: (message, live) => this.#news(message, live), took: (item, message) => this.#took(item, message),
    dump: () => ({ raw: this.raw.dump() }), load: ({ raw }) => this.#load(raw),
  });
  rows = this.feed.rows;
  #names = new Map(); // trader -> name, of the rows that are visible

  // `me` is who is signed in; `signedOut(why, share)` is called when that is over.
  constructor(me, signedOut) {
    Object.assign(this, { me, onSignedOut: signedOut });
    const changed = (after) => this.frames.next(after);
    this.layout = new Layout(find("desk"), this.prefs);
    this.alerts = new Alerts({
      rows: () => this.rows.of("risk-alerts"), prefs: this.prefs, mayOperate: !KIOSK && me.scopes.includes("operate"),
      act: (id, what) => this.client.acknowledge(id, what), speaks: () => this.feed.share.role !== "follower",
      traderName: (id) => this.#names.get(id),
      changed: (key) => {
        this.tables.get("risk-alerts").follow(this.rows.of("risk-alerts"), new Set([key]));
        this.frames.next();
      },
    });
    this.holdings = new Holdings({
      show: (trader) => {
        this.filter({ ...this.prefs.get("filter"), traderId: [trader] });
        this.layout.go("positions", { whole: true });
      },
    });
    this.tables = new Tables({
      layout: this.layout, prefs: this.prefs, rows: this.rows, changed,
      open: (channel, key, ended) => KIOSK || this.detail.open(channel, key, ended),
      history: (channel, page) => this.#history(channel, page), titleOf: (channel) => this.titleOf(channel),
      context: {
        alerts: this.alerts, traderName: (id) => this.#names.get(id), holdings: this.holdings,
        profitOf: (trader) => this.charts?.profitOf(trader) ?? [],
      },
    });
    this.past = new PastReader({ base: BASE, client: this.client });
    this.charts = new Charts({
      panel: this.layout.add("charts", T.panels.charts), rows: (channel) => this.rows.of(channel), held: () => this.holdings.all,
      traderName: (id) => this.#names.get(id),
    });
    const raw = this.layout.add("raw", T.panels.raw);
    raw.count.id = "raw-count";
    this.raw = new Messages({ id: "raw", body: raw.body, tools: raw.tools, note: raw.count, channels: KNOWN, schedule: changed });
    this.keyring = new Keyring();
    this.operator = new Operator({
      panel: this.layout.add("operator", T.panels.operator), keyring: this.keyring, prefs: this.prefs, changed,
    });
    this.debugger = new Debugger({
      panel: this.layout.add("debug", T.panels.debug), keyring: this.keyring, channels: KNOWN, changed: () => this.frames.soon(),
      base: BASE,
    });
    this.detail = new Detail({
      client: this.client, row: (channel, key) => this.rows.of(channel).get(key), title: (channel) => this.titleOf(channel),
      nameOf: (channel, row) => VIEWS[channel]?.nameOf?.(row, { traderName: (id) => this.#names.get(id) }),
      only: (field, value) => this.filter({ ...this.prefs.get("filter"), [field]: [value] }),
      position: () => this.feed.position, filtersOf: (channel) => this.#filtersOf(channel),
      pins: (channel) => this.tables.get(channel),
    });
    this.status = new Status(this.alerts, () => this.feed.tryNow());
    this.glance = new Glance(this.rows, () => this.holdings.all);
    toolbar(this);
    if (!KIOSK) listenToKeys({
      layout: this.layout, search: find("search"), clear: () => this.search(""),
      acknowledge: () => {
        const selected = this.layout.focused === "risk-alerts" ? document.activeElement.dataset.key : undefined;
        this.alerts.take(selected);
      },
    });
    this.prefs.onchange((name) => this.#preferred(name));
    this.layout.changed = () => this.frames.next();
    set(find("who"), me.name);
    find("sign-out").addEventListener("click", () => this.signOut());
    find("state-again").addEventListener("click", () => location.reload());
  }

  titleOf(channel) {
    return T.channels[channel] ?? this.feed.catalogue?.get(channel)?.title ?? channel;
  }

  // A page of events, with as much of the filter as the channel knows.
  #history(channel, page) {
    return this.client.history(channel, { ...page, filter: this.#filterOf(channel) });
  }

  #filtersOf(channel) {
    return this.feed.catalogue?.get(channel)?.filters ?? [];
  }

  #filterOf(channel) {
    const fields = this.#filtersOf(channel);
    return Object.fromEntries(Object.entries(this.prefs.get("filter")).filter(([field]) => fields.includes(field)));
  }

  start() {
    find("page").hidden = false;
    for (const name of ["theme", "palette", "density", "zone"]) this.#preferred(name);
    this.layout.apply();
    this.tables.refill();
    this.feed.connect(this.prefs.get("filter"));
    this.pulse.start();
    setInterval(() => tidy(this.rows.of("market-data")), TIDY_MS);
    this.#learn();
  }

  filter(values) {
    this.prefs.set("filter", checkedFilter(values));
    this.tables.resolved.forget();
    this.charts.forget();
    this.#filled = false;
    this.feed.refilter(this.prefs.get("filter"));
    this.frames.next();
  }

  // An event, before its row changes; `live` says that it is news.
  #news(message, live) {
    if (message.channel === "risk-alerts") {
      this.alerts.observe(message, live);
      this.tables.resolved.observe(message);
    }
    observe(message);
    this.charts.observe(message);
  }

  #took(item, message) {
    if (message.type === "event") this.rate.hit(item.at);
    this.raw.add(item);
    if (message.type === "snapshot") this.tables.resolved.doubt();
    if (message.type === "ack") this.#learn();
    if (item.name === "~ended") {
      this.pulse.measure(); // it says whether the session is over
      waitForSession();
    }
    // A hidden tab draws no frame, and its title counts all the same.
    if (document.hidden && message.channel === "risk-alerts") this.#renderTitle(Date.now());
    this.frames.soon();
  }

  #load(raw) {
    this.tables.resolved.doubt();
    for (const item of raw) this.raw.add(item);
    this.frames.next();
  }

  // The catalogue: which channels this key may see, when each is stale, and those that are new to us.
  async #learn() {
    try {
      const entries = await this.client.channels();
      this.feed.catalogue = new Map(entries.map((entry) => [entry.name, entry]));
      for (const entry of entries) if (this.tables.know(entry)) this.raw.know(entry.name);
      this.debugger.know(entries);
      this.layout.apply();
    } catch {
      setTimeout(() => this.feed.catalogue === null && this.#learn(), 5000);
    }
    this.#fillCharts();
  }

  #filled = false;

  async #fillCharts() {
    const { position, link } = this.feed;
    if (this.#filled || position === null || link.phase !== "live") return; // else the position may be of another journal
    this.#filled = true;
    const visible = (channel) => this.feed.visible(channel);
    const read = (channel, { more, ...wanted }) => this.past.read({ channel, ...wanted, filter: { ...this.#filterOf(channel), ...more } });
    const now = Date.now() + this.clock.offset;
    await this.charts.fill(read, position, visible, now).catch(() => (this.#filled = false));
    this.tables.get("trader-status").repaint();
  }

  #beat(now) {
    this.#fillCharts();
    if (document.hidden) this.#renderTitle(now);
    this.frames.soon();
  }

  async signOut() {
    this.feed.stream.close();
    try {
      await session.signOut();
    } finally {
      this.feed.share.tellSessionChanged();
      location.reload();
    }
  }

  signedOut(why) {
    this.feed.stream.close();
    this.onSignedOut(why, this.feed.share);
  }

  search(text) {
    if (find("search").value !== text) find("search").value = text;
    this.tables.search(text.trim());
    this.operator.search(text.trim());
  }

  #preferred(name) {
    const root = document.documentElement;
    if (name === "theme" || name === "palette" || name === "density") root.dataset[name] = this.prefs.get(name);
    if (name === "zone") {
      setZone(this.prefs.get("zone"));
      set(find("zone"), zoneName());
      this.tables.refill();
    }
    this.frames.next();
  }

  // The freshness of each channel.
  #states(now) {
    return new Map(this.tables.channels.map((channel) => [channel, this.feed.freshness(channel, now)]));
  }

  #titled(states) {
    return [...states].map(([channel, state]) => [this.titleOf(channel), state]);
  }

  render() {
    const now = Date.now();
    const dirty = this.rows.takeDirty();
    const states = this.#states(now);
    const { offset } = this.clock;
    if (dirty.has("trader-status")) this.#learnNames();
    this.#followHoldings(dirty.get("positions"), states.get("positions").state, now);
    this.tables.render(states, dirty, (channel) => ({ staleAfter: this.feed.staleAfter(channel), now, offset }));
    const { link, story, position, share } = this.feed;
    const channels = this.#titled(states);
    this.status.render({ link, story, channels, position, role: share.role, now });
    this.glance.sums(states, this.status.title(link, channels, now));
    this.glance.pace({ rate: this.rate, link, clock: this.clock }, now);
    this.#renderCharts(states, now);
    this.detail.render();
    this.operator.render(now);
    const waiting = [this.raw.render(now), this.debugger.render(now)];
    if (waiting.includes(true)) this.frames.soon();
  }

  #followHoldings(keys, state, now) {
    const { rows, left, whole } = this.rows;
    const traders = this.holdings.refresh({
      rows: rows.get("positions") ?? new Map(), keys, whole: whole.has("positions"), left: left.get("positions") ?? 0,
      state, staleAfter: this.feed.staleAfter("positions"), now, offset: this.clock.offset,
    });
    if (this.holdings.unfinished) this.frames.next();
    if (traders === null) this.tables.get("trader-status").repaint();
    else if (traders.size) this.tables.get("trader-status").follow(this.rows.of("trader-status"), traders);
  }

  // The panel says how fresh that is which its line is made of.
  #renderCharts(states, now) {
    const panel = this.layout.panels.get("charts");
    if (panel.section.hidden) return;
    const about = {
      states, offset: this.clock.offset, staleAfter: (channel) => this.feed.staleAfter(channel),
      whole: (channel) => this.rows.whole.has(channel) && !this.rows.left.get(channel),
    };
    this.charts.render(now, about);
    const state = states.get(this.charts.source.channel);
    if (this.charts.what.value && state) panel.state(state, now);
  }

  #learnNames() {
    const names = [...this.rows.of("trader-status")].map(([key, { data }]) => [key, data.name]);
    if (names.length === this.#names.size && names.every(([key, name]) => this.#names.get(key) === name)) return;
    this.#names = new Map(names);
    this.tables.get("positions").follow(this.rows.of("positions"), null); // they stand in the order of the names
    for (const table of [this.tables.get("risk-alerts"), this.tables.resolved.table]) table.repaint();
  }

  #renderTitle(now) {
    this.status.title(this.feed.link, this.#titled(this.#states(now)), now);
  }
}
