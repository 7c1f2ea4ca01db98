// Puts the page together: one stream in, one table of rows, a few panels, a frame at a time.

import { Client, Rows, foldLink, freshness, judgedByService, newLink, staleAfterOf } from "../client/telecast.js";
import { Alerts } from "./alerts.js";
import { KNOWN, observe, tidy } from "./channels.js";
import { Charts } from "./charts.js";
import { Debugger } from "./debug.js";
import { Detail } from "./detail.js";
import { find, set } from "./dom.js";
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
import { Share } from "./share.js";
import { Status } from "./status.js";
import { foldStory, newStory } from "./story.js";
import { Tables } from "./tables.js";
import { toolbar } from "./toolbar.js";
import { T } from "./texts.js";

const TIDY_MS = 60_000;
const BASE = new URL(".", location.href).href.replace(/\/$/, ""); // the service's address
const FILTERS = ["traderId", "symbol", "exchange", "severity"];

export class Desk {
  rows = new Rows();
  pulse = new Pulse({
    beat: (now) => this.#beat(now), woke: () => this.stream.check(),
    measured: (over) => {
      if (over !== null) this.signedOut(over);
      this.schedule();
    },
  });
  clock = this.pulse.clock;
  rate = new Rate();
  link = newLink(Date.now());
  story = newStory();
  prefs = new Prefs();
  client = new Client(".", { prepare: false }); // by the session; relative, for a prefix
  catalogue = null; // name -> entry; null: not known yet
  #names = new Map(); // trader -> name, of the rows that are visible
  #position = null;
  #frame = 0;
  #after = [];

  // `me` is who is signed in; `signedOut(why, share)` is called when that is over.
  constructor(me, signedOut) {
    Object.assign(this, { me, onSignedOut: signedOut });
    const changed = (after) => this.schedule(after);
    this.layout = new Layout(find("desk"), this.prefs);
    this.alerts = new Alerts({
      rows: () => this.rows.of("risk-alerts"), prefs: this.prefs, mayOperate: !KIOSK && me.scopes.includes("operate"),
      act: (id, what) => this.client.acknowledge(id, what), speaks: () => this.share.role !== "follower",
      traderName: (id) => this.#names.get(id),
      changed: (key) => {
        this.tables.get("risk-alerts").follow(this.rows.of("risk-alerts"), new Set([key]));
        this.schedule();
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
    this.past = new PastReader({ base: BASE, history: (channel, page) => this.client.history(channel, page) });
    this.charts = new Charts(this.layout.add("charts", T.panels.charts), (channel) => this.rows.of(channel), () => this.holdings.all);
    const raw = this.layout.add("raw", T.panels.raw);
    raw.count.id = "raw-count";
    this.raw = new Messages({ id: "raw", body: raw.body, tools: raw.tools, note: raw.count, channels: KNOWN, schedule: changed });
    this.keyring = new Keyring();
    this.operator = new Operator({
      panel: this.layout.add("operator", T.panels.operator), keyring: this.keyring, prefs: this.prefs, changed,
    });
    this.debugger = new Debugger({
      panel: this.layout.add("debug", T.panels.debug), keyring: this.keyring, channels: KNOWN, changed,
      base: BASE,
    });
    this.detail = new Detail({
      client: this.client, row: (channel, key) => this.rows.of(channel).get(key), title: (channel) => this.titleOf(channel),
      only: (field, value) => this.filter({ ...this.prefs.get("filter"), [field]: [value] }),
      position: () => this.#position, filtersOf: (channel) => this.catalogue?.get(channel)?.filters ?? [],
      pins: (channel) => this.tables.get(channel),
    });
    this.status = new Status(this.alerts);
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
    this.layout.changed = () => this.schedule();
    set(find("who"), me.name);
    find("sign-out").addEventListener("click", () => this.signOut());
    find("state-again").addEventListener("click", () => location.reload());
  }

  titleOf(channel) {
    return T.channels[channel] ?? this.catalogue?.get(channel)?.title ?? channel;
  }

  // A page of events, with as much of the filter as the channel knows.
  #history(channel, page) {
    return this.client.history(channel, { ...page, filter: this.#filterOf(channel) });
  }

  #filterOf(channel) {
    const fields = this.catalogue?.get(channel)?.filters ?? [];
    return Object.fromEntries(Object.entries(this.prefs.get("filter")).filter(([field]) => fields.includes(field)));
  }

  start() {
    find("page").hidden = false;
    for (const name of ["theme", "palette", "density", "zone"]) this.#preferred(name);
    this.layout.apply();
    this.tables.refill();
    this.connect();
    this.pulse.start();
    setInterval(() => tidy(this.rows.of("market-data")), TIDY_MS);
    this.#learn();
  }

  // The stream with the filter that holds, shared with the tabs that want the same.
  connect() {
    const filter = Object.fromEntries(FILTERS.filter((name) => this.prefs.get("filter")[name]?.length).map((name) => [name, this.prefs.get("filter")[name]]));
    const what = Object.keys(filter).length ? JSON.stringify(filter) : "";
    this.stream = this.client.stream({ clientId: "page", ...filter }, (item) => {
      this.take(item);
      this.share.tell(item);
    });
    this.share = new Share({
      what,
      lead: () => this.stream.open(this.#position),
      take: (items) => items.forEach((item) => this.take(item)),
      dump: () => ({ rows: this.rows.dump(), link: this.link, story: this.story, position: this.#position, raw: this.raw.dump() }),
      load: (state) => this.load(state),
      changed: () => this.schedule(),
      sessionChanged: () => location.reload(),
    });
    this.share.start();
  }

  // What is selected changes: rows that were had under another filter are nobody's proof.
  filter(values) {
    this.prefs.set("filter", Object.fromEntries(Object.entries(values).filter(([name, list]) => FILTERS.includes(name) && list.length)));
    this.stream.close();
    this.share.close();
    this.#position = null;
    this.link = newLink(Date.now());
    for (const channel of [...this.rows.whole]) this.rows.forget(channel);
    this.tables.resolved.forget();
    this.charts.forget();
    this.#filled = false;
    this.connect();
    this.schedule();
  }

  // One item of the stream, our own or another tab's.
  take(item) {
    const message = JSON.parse(item.text);
    const live = this.link.phase === "live";
    this.#position = item.id;
    this.story = foldStory(this.story, this.link, item, message);
    this.link = foldLink(this.link, item, message, this.clock.offset);
    if (message.type === "event") {
      if (message.channel === "risk-alerts") {
        this.alerts.observe(message, live);
        this.tables.resolved.observe(message);
      }
      observe(message);
      this.charts.observe(message);
      this.rate.hit(item.at);
    }
    this.rows.apply(message);
    this.raw.add(item);
    if (message.type === "snapshot") this.tables.resolved.doubt();
    if (message.type === "ack") this.#learn();
    if (item.name === "~ended") {
      this.pulse.measure(); // it says whether the session is over
      waitForSession();
    }
    // A hidden tab draws no frame, and its title counts all the same.
    if (document.hidden && message.channel === "risk-alerts") this.#renderTitle(Date.now());
    this.schedule();
  }

  load({ rows, link, story, position, raw }) {
    this.rows.load(rows);
    this.tables.resolved.doubt();
    Object.assign(this, { link, story });
    this.#position = position;
    for (const item of raw) this.raw.add(item);
    this.schedule();
  }

  // The catalogue: which channels this key may see, when each is stale, and those that are new to us.
  async #learn() {
    try {
      const entries = await this.client.channels();
      this.catalogue = new Map(entries.map((entry) => [entry.name, entry]));
      for (const entry of entries) if (this.tables.know(entry)) this.raw.know(entry.name);
      this.debugger.know(entries);
      this.layout.apply();
    } catch {
      setTimeout(() => this.catalogue === null && this.#learn(), 5000);
    }
    this.#fillCharts();
  }

  #filled = false;

  async #fillCharts() {
    if (this.#filled || this.#position === null || this.link.phase !== "live") return; // else the position may be of another journal
    this.#filled = true;
    const visible = (channel) => this.catalogue?.has(channel);
    const read = (channel, { more, ...wanted }) => this.past.read({ channel, ...wanted, filter: { ...this.#filterOf(channel), ...more } });
    const now = Date.now() + this.clock.offset;
    await this.charts.fill(read, this.#position, visible, now).catch(() => (this.#filled = false));
    this.tables.get("trader-status").repaint();
  }

  #beat(now) {
    this.#fillCharts();
    if (document.hidden) this.#renderTitle(now);
    this.schedule();
  }

  async signOut() {
    this.stream.close();
    try {
      await session.signOut();
    } finally {
      this.share.tellSessionChanged();
      location.reload();
    }
  }

  signedOut(why) {
    this.stream.close();
    this.onSignedOut(why, this.share);
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
    this.schedule();
  }

  schedule(after) {
    if (after) this.#after.push(after);
    if (this.#frame === 0) {
      this.#frame = requestAnimationFrame(() => {
        this.#frame = 0;
        this.render();
        for (const each of this.#after.splice(0)) each();
      });
    }
  }

  // The freshness of one channel.
  freshness(channel, now) {
    const facts = {
      channel, visible: this.visible(channel), whole: this.rows.whole.has(channel), rows: this.rows.of(channel).size,
      lastAt: this.rows.lastAt.get(channel) ?? null, staleAfter: this.staleAfter(channel),
      judged: judgedByService(this.catalogue?.get(channel)),
    };
    return freshness(this.link, facts, now, this.clock.offset);
  }

  staleAfter(channel) {
    return staleAfterOf(this.catalogue?.get(channel), channel);
  }

  visible(channel) {
    if (this.catalogue === null) return null;
    return this.catalogue.has(channel);
  }

  // The freshness of each channel.
  #states(now) {
    return new Map(this.tables.channels.map((channel) => [channel, this.freshness(channel, now)]));
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
    this.tables.render(states, dirty, (channel) => ({ staleAfter: this.staleAfter(channel), now, offset }));
    const { link, story } = this;
    const channels = this.#titled(states);
    this.status.render({ link, story, channels, position: this.#position, role: this.share.role, now });
    this.glance.sums(states, this.status.title(link, story, channels, now));
    this.glance.pace(this, now);
    this.#renderCharts(states, now);
    this.detail.render();
    this.operator.render(now);
    const waiting = [this.raw.render(now), this.debugger.render(now)];
    if (waiting.includes(true)) setTimeout(() => this.schedule(), 100);
  }

  #followHoldings(keys, state, now) {
    const { rows, left, whole } = this.rows;
    const traders = this.holdings.refresh({
      rows: rows.get("positions") ?? new Map(), keys, whole: whole.has("positions"), left: left.get("positions") ?? 0,
      state, staleAfter: this.staleAfter("positions"), now, offset: this.clock.offset,
    });
    if (traders === null) this.tables.get("trader-status").repaint();
    else if (traders.size) this.tables.get("trader-status").follow(this.rows.of("trader-status"), traders);
  }

  // The panel says how fresh that is which its line is made of.
  #renderCharts(states, now) {
    const panel = this.layout.panels.get("charts");
    if (panel.section.hidden) return;
    const about = {
      states, offset: this.clock.offset, staleAfter: (channel) => this.staleAfter(channel),
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
    for (const table of [this.tables.get("risk-alerts"), this.tables.resolved.table]) table.repaint();
  }

  #renderTitle(now) {
    this.status.title(this.link, this.story, this.#titled(this.#states(now)), now);
  }
}
