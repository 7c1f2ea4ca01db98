// Puts the page together: one stream in, one store, a few views, a frame at a time.

import { CHANNELS, VIEWS, observe, tidy } from "./channels.js";
import { Clock, Rate } from "./clock.js";
import { decimal, milliseconds, shorten, span, sum, time, toneOf } from "./format.js";
import { Raw } from "./raw.js";
import * as session from "./session.js";
import { Share } from "./share.js";
import { draw, sparkline } from "./spark.js";
import { PHASES, fold, initial, note } from "./state.js";
import { Store } from "./store.js";
import { Stream } from "./stream.js";
import { Table, make, set } from "./tables.js";

const MEASURE_MS = 10 * 60_000; // the clocks, and with it the session is renewed
const TIDY_MS = 60_000;
const find = (id) => document.getElementById(id);

class Page {
  store = new Store();
  clock = new Clock();
  rate = new Rate();
  link = initial();
  #position = null;
  #frame = 0;

  constructor(me) {
    this.tables = new Map(
      CHANNELS.map((channel) => [channel, new Table(find(channel), VIEWS[channel])]),
    );
    this.raw = new Raw(find("raw"), CHANNELS, () => this.schedule());
    this.stream = new Stream({
      path: "/sse/telemetry",
      channels: CHANNELS,
      emit: (item) => {
        this.hear(item);
        this.share.tell(item);
      },
    });
    this.share = new Share({
      lead: () => this.stream.open(this.#position),
      hear: (items) => items.forEach((item) => this.hear(item)),
      dump: () => ({ store: this.store.dump(), link: this.link, position: this.#position, raw: this.raw.dump() }),
      load: (state) => this.load(state),
      changed: () => this.schedule(),
      sessionChanged: () => location.reload(),
    });
    this.rateLine = find("sum-rate-note").appendChild(sparkline());
    set(find("who"), me.name);
    find("sign-out").addEventListener("click", () => this.signOut());
    find("state-again").addEventListener("click", () => location.reload());
  }

  start() {
    find("page").hidden = false;
    for (const [channel, table] of this.tables) table.render(this.store.of(channel), null);
    this.share.start();
    this.measure();
    setInterval(() => this.measure(), MEASURE_MS);
    setInterval(() => this.schedule(), 1000);
    setInterval(() => tidy(this.store.of("market-data")), TIDY_MS);
    document.addEventListener("visibilitychange", () => this.schedule());
  }

  // One item of the stream, our own or another tab's.
  hear(item) {
    const message = JSON.parse(item.text);
    const live = this.link.phase === "live";
    this.#position = item.id ?? this.#position;
    this.link = fold(this.link, item, message);
    this.store.apply(message);
    this.raw.add(item);
    if (message.type === "event") {
      observe(message);
      this.rate.hit(item.at);
      // What is replayed is old by nature: only what came live says how far behind we are.
      if (live) this.clock.event(message.timestamp, item.at);
    }
    if (item.name === "~ended" && message.status === 401) this.signedOut(message.message);
    this.schedule();
  }

  load({ store, link, position, raw }) {
    this.store.load(store);
    this.link = link;
    this.#position = position;
    for (const item of raw) this.raw.add(item);
    this.schedule();
  }

  async measure() {
    try {
      let me = null;
      await this.clock.measure(async () => (me = await session.whoAmI()).serverTime);
      if (!me.signedIn) this.signedOut(me.why.message);
    } catch {
      // not reachable: the connection's state says so already
    }
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
    showSignIn(why, this.share);
  }

  schedule() {
    if (this.#frame === 0) {
      this.#frame = requestAnimationFrame(() => {
        this.#frame = 0;
        this.render();
      });
    }
  }

  render() {
    const now = Date.now();
    const dirty = this.store.takeDirty();
    for (const [channel, keys] of dirty) {
      this.tables.get(channel)?.render(this.store.of(channel), keys, this.store.left.get(channel));
    }
    this.#renderState(now);
    if (dirty.size) this.#renderSums(dirty);
    this.#renderPace(now);
    if (this.raw.render(now)) setTimeout(() => this.schedule(), 100);
  }

  #renderState(now) {
    const { word, tone } = PHASES[this.link.phase];
    find("state").dataset.tone = tone;
    document.documentElement.dataset.phase = this.link.phase;
    document.title = this.link.phase === "live" ? "Telecast" : `${word} – Telecast`;
    set(find("state-word"), word);
    set(find("state-note"), note(this.link, now));
    find("state-again").hidden = this.link.phase !== "ended";
    const notice = this.link.notice;
    find("notice").hidden = notice === null;
    if (notice !== null) set(find("notice"), `${notice.message} (${notice.code})`);
    set(find("foot-position"), this.#position === null ? "" : `at ${this.#position}`);
    const shared = { leader: "this tab holds the stream", follower: "shared from another tab", alone: "a stream of its own" };
    set(find("foot-share"), shared[this.share.role] ?? "");
    document.documentElement.dataset.role = this.share.role ?? "";
    const story = find("story-list");
    if (story.dataset.top !== String(this.link.story[0]?.at) + this.link.story[0]?.text) {
      story.dataset.top = String(this.link.story[0]?.at) + this.link.story[0]?.text;
      story.replaceChildren(
        ...this.link.story.map(({ at, text }) => {
          const li = make("li");
          li.append(make("span", "at", time(at)), make("span", "", text));
          return li;
        }),
      );
    }
  }

  #renderSums(dirty) {
    const rows = (channel) => [...this.store.of(channel).values()].map(({ data }) => data);
    if (dirty.has("positions")) {
      const positions = rows("positions");
      const total = sum(positions.map((row) => row.unrealizedPnL));
      set(find("sum-pnl"), positions.length ? decimal(shorten(total, 2), { signed: true }) : "–");
      find("sum-pnl").dataset.tone = positions.length ? toneOf(total) : "";
      set(find("sum-pnl-note"), many(positions.length, "position"));
    }
    if (dirty.has("trader-status")) {
      const traders = rows("trader-status");
      const running = traders.filter((row) => row.status === "RUNNING").length;
      set(find("sum-traders"), traders.length ? String(running) : "–");
      set(find("sum-traders-note"), traders.length ? `of ${traders.length} running` : "");
    }
    if (dirty.has("risk-alerts")) {
      const alerts = rows("risk-alerts");
      const critical = alerts.filter((row) => row.severity === "CRITICAL").length;
      set(find("sum-alerts"), String(alerts.length));
      find("sum-alerts").dataset.tone = critical ? "loss" : "";
      set(find("sum-alerts-note"), critical ? `${critical} critical` : "none critical");
    }
  }

  #renderPace(now) {
    const rate = this.rate.now(now);
    set(find("sum-rate"), rate >= 10 ? Math.round(rate).toLocaleString("en") : rate.toFixed(1));
    const second = Math.floor(now / 1000);
    if (this.rateLine.dataset.second !== String(second)) {
      this.rateLine.dataset.second = String(second);
      draw(this.rateLine, this.rate.history(now), "calm", 0);
    }
    const { offset, doubt } = this.clock;
    const lag = this.link.phase === "live" ? this.clock.lag(now) : null;
    set(find("sum-lag"), lag === null ? "–" : milliseconds(lag));
    set(find("sum-lag-note"), offset === null ? "clocks not compared" : skew(offset, doubt));
  }
}

function skew(offset, doubt) {
  const sure = `${Math.max(1, Math.round(doubt))} ms`;
  if (Math.abs(offset) < 50) return `clocks agree to ${sure}`;
  const wrong = `${span(Math.abs(offset))} ${offset > 0 ? "slow" : "fast"}`;
  return `this clock is ${wrong}; corrected, ±${sure}`;
}

function many(number, word) {
  return number === 0 ? "" : `${number.toLocaleString("en")} ${word}${number === 1 ? "" : "s"}`;
}

function showSignIn(why, share) {
  const form = find("sign-in");
  find("page").hidden = true;
  form.hidden = false;
  document.title = "Sign in – Telecast";
  if (why) set(find("sign-in-why"), why);
  find("key").focus();
  form.onsubmit = async (event) => {
    event.preventDefault();
    const key = find("key").value.trim();
    set(find("sign-in-fault"), "");
    try {
      await session.signIn(key);
      find("key").value = "";
      share?.tellSessionChanged();
      location.reload();
    } catch (fault) {
      set(find("sign-in-fault"), fault instanceof session.Refused ? fault.message : "The service can't be reached.");
    }
  };
}

async function begin() {
  const failed = await session.signInByLink();
  let me;
  try {
    me = await session.whoAmI();
  } catch {
    setTimeout(begin, 2000);
    return;
  }
  if (!me.signedIn) {
    const tabs = new Share({ sessionChanged: () => location.reload() });
    showSignIn(failed ?? (me.why.code === "UNAUTHENTICATED" ? null : me.why.message), tabs);
    return;
  }
  new Page(me).start();
}

begin();
