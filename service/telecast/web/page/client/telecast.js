// The client of Telecast for browsers and Node 20: one module, nothing else needed, so that it can be
// copied as one file. In it stand, in this order: states of freshness and clocks (pure), rows (a fold
// of messages), the stream (one connection after the other), and what applications use.
//
// What it holds to: a stream comes back by itself from the last position that it saw, so nothing
// is lost and nothing comes twice; a table is whole or says that it is not; and nothing is called
// live that is not. The last is `freshness`, a pure function: `now` comes in, it reads no clock.

export const AMBER_MS = 2000;
export const RED_MS = 10_000;
// Used where the service's catalogue does not say when a channel is stale; null: never.
export const STALE_AFTER_MS = {
  "market-data": 30_000, positions: 120_000, "trader-status": 120_000, "risk-alerts": null,
};
const OTHER_STALE_AFTER_MS = null;
const HEARTBEAT_SECONDS = 2; // so soon a frozen service shows
const LONGEST_QUERY = 4_000; // characters: many proxies take 8 KiB of a request line
const SILENT_BEATS = 4; // a line that stutters is not cut off
const SIGN_SLACK_MS = 1000; // a sign of life comes twice in a heartbeat, and may be so late
const ASK_MS = 500; // a WebSocket that is silent for so long is asked for a sign
const CONNECT_MS = 10_000;
const UPGRADE_MS = 4_000; // a proxy that lets no WebSocket through may also never answer
const BACKOFF_MS = { first: 1000, most: 20_000 };
const UNREACHED_IS_DOWN = 2;
const TURN_MS = 8;
export const MOST_ROWS = 20_000;
const MOST_LOGGED = 1000;
const NO_FILTERS = new Set(["channels", "delivery", "since", "replay", "heartbeat", "maxRate", "clientId", "position"]);
const REFINES = "filter-"; // what the names of requests begin with that change the filter

/** @typedef {{ [field: string]: string | string[] }} Filter values that pass, by filter field */
/** @typedef {{ [field: string]: any }} Row a payload: decimals and instants are strings */
/** @typedef {{ keys: Set<string> | null, event: object | null }} Changed */
/** @typedef {{ add?: Filter, remove?: Filter }} Refinement values that come in, values that go */
/**
 * @typedef {object} Options
 * @property {string | null} [key] an API key; without one, and without `ticket`, the browser's session
 * @property {(() => Promise<string>) | null} [ticket] resolves to a ticket, for pages elsewhere
 * @property {"sse" | "websocket"} [transport] where no WebSocket gets through, the same stream comes as SSE
 * @property {typeof globalThis.fetch} [fetch]
 * @property {typeof globalThis.WebSocket} [WebSocket]
 * @property {boolean} [prepare]
 */
/**
 * @typedef {object} Change one event, or with `state` what happened to the connection in between
 * @property {string} [channel]
 * @property {"upsert" | "delete" | "append" | "leave"} [op] `leave`: the filter does not take this row any more
 * @property {string} [key]
 * @property {Row} [row]
 * @property {string | null} position where to go on once this is handled
 * @property {{ [field: string]: any }} [event]
 * @property {string} [state]
 * @property {{ [field: string]: any }} [message]
 */

// --- states of freshness

// What a channel, or the whole page, can be. Only `live` is green.
export const States = Object.freeze({
  LOADING: "loading", LIVE: "live", DELAYED: "delayed", RECONNECTING: "reconnecting",
  STALE: "stale", NOT_VISIBLE: "not visible", EMPTY: "empty", DOWN: "down", UNKNOWN: "unknown",
  ENDED: "ended", NEVER: "never published",
});

// How the connection stands: a value, folded from what the stream reports.
export function newLink(now) {
  return {
    phase: "loading", // loading, filling, live, lost, ended
    since: now,
    begunAt: now,
    heardAt: null, // our clock, when the last message or sign of life came
    lag: null, // ms that it took, by both clocks
    beatMs: HEARTBEAT_SECONDS * 1000,
    unreached: 0, // attempts in a row at which nobody answered
    retryAt: null,
    why: null, // what the last connection was lost by, in a sentence
    liveAt: null, // of when what is shown is: it was known to be how it is then
    notice: null,
    ended: null,
    stale: {}, // channel -> since when, where the service itself says so; null: it never was published to
  };
}

const NEXT = {
  welcome: ["loading", "filling", "live", "lost", "ended"],
  snapshot: ["filling", "live"],
  resume: ["filling", "live"],
  live: ["filling", "live"],
  "~refined": ["filling", "live"],
  "~lost": ["loading", "filling", "live", "lost"],
  "~ended": ["loading", "filling", "live", "lost"],
};
const PHASE_AFTER = {
  welcome: "filling", snapshot: "filling", resume: "filling", live: "live",
  "~refined": "filling", "~lost": "lost", "~ended": "ended",
};

// The link after one item of a stream: {name, at}; `message` is its text, parsed. `offset` is how
// many ms the service's clock is ahead of ours.
export function foldLink(link, item, message, offset = 0) {
  const next = { ...link };
  const ours = item.name.startsWith("~");
  if (!ours || item.name === "~alive") {
    next.heardAt = item.at;
    if (link.phase === "live") {
      // Rows of a snapshot and replayed events are old by nature: they say nothing of the line.
      if (message.timestamp) next.lag = Math.max(0, item.at + offset - message.timestamp);
      next.liveAt = item.at - (next.lag ?? 0);
    }
  }
  // While a filter changes there may be a `live` that is not of the new one: it proves no position.
  const early = item.name === "live" && item.id === null;
  if (!early && NEXT[item.name]?.includes(link.phase)) {
    const phase = PHASE_AFTER[item.name];
    if (phase !== link.phase) Object.assign(next, { phase, since: item.at });
  }
  switch (item.name) {
    case "welcome":
      Object.assign(next, {
        beatMs: (message.heartbeatSeconds ?? HEARTBEAT_SECONDS) * 1000,
        unreached: 0, retryAt: null, why: null, notice: null, lag: null, stale: {},
      });
      break;
    case "live":
      if (!early) next.liveAt = item.at;
      break;
    case "stale":
      next.stale = { ...link.stale, [message.channel]: sinceOf(message, item.at - offset) };
      break;
    case "fresh":
      next.stale = { ...link.stale };
      delete next.stale[message.channel];
      break;
    case "notice":
      next.notice = message;
      break;
    case "~lost":
      next.unreached = message.reached ? 0 : link.unreached + (message.tried ? 1 : 0);
      next.retryAt = message.retryAt ?? null;
      next.why = message.why ?? null;
      break;
    case "~ended":
      next.ended = message;
      break;
  }
  return next;
}

function sinceOf({ since, lastEventAt, timestamp }, otherwise) {
  if (since === null) return null;
  const found = since ?? lastEventAt ?? timestamp;
  const at = typeof found === "string" ? Date.parse(found) : found;
  return Number.isFinite(at) ? at : otherwise;
}

// How late we are, in ms: what the last message took; once the next sign of life is overdue, how long
// nothing has come, for that is how old what we hold may be. A line that is cut, a browser that is busy
// and a computer that slept all look like this.
export function delayOf(link, now) {
  if (link.phase !== "live") return null;
  const silent = link.heardAt === null ? 0 : now - link.heardAt;
  const overdue = silent > Math.max(AMBER_MS, link.beatMs / 2 + SIGN_SLACK_MS);
  return Math.max(link.lag ?? 0, overdue ? silent : 0);
}

// The connection: {state, since, level, delay}. `level` is "", "amber" or "red". Of one that was lost
// `since` is of when what is shown is, so that an age goes on from where the delay was.
export function connection(link, now) {
  const shown = (state, level = "", more = {}) => ({ state, level, since: link.since, ...more });
  const gone = { since: link.liveAt ?? link.begunAt };
  switch (link.phase) {
    case "ended":
      return shown(States.ENDED, "red", gone);
    case "lost":
      return link.unreached >= UNREACHED_IS_DOWN
        ? shown(States.DOWN, "red", gone)
        : shown(States.RECONNECTING, "amber", gone);
    case "live": {
      const delay = delayOf(link, now);
      if (delay <= AMBER_MS) return shown(States.LIVE, "", { delay });
      return shown(States.DELAYED, delay > RED_MS ? "red" : "amber", { delay });
    }
    default:
      return link.unreached >= UNREACHED_IS_DOWN
        ? shown(States.DOWN, "red", gone)
        : shown(States.LOADING, "");
  }
}

// One channel: {state, level, since, age}. `whole`: a complete table was had, ever. `lastAt` is when
// it was last published to, by the service's clock; null: not known. `staleAfter` in ms, or null.
// `judged`: the service itself says in the stream when the channel is stale. It knows of events that
// a filter keeps from us, and of publishers that are well and have nothing to say.
export function freshness(link, facts, now, offset = 0) {
  const { visible, whole, rows, lastAt, staleAfter, channel, judged = false } = facts;
  const line = connection(link, now);
  const age = lastAt === null ? null : Math.max(0, now + offset - lastAt);
  if (visible === false) return { state: States.NOT_VISIBLE, level: "", since: null, age: null };
  if (line.state === States.ENDED || line.state === States.DOWN || line.state === States.RECONNECTING) {
    return { ...line, state: whole ? line.state : States.UNKNOWN, age };
  }
  if (!whole) return { ...line, state: States.LOADING, level: "", age };
  if (line.state === States.DELAYED) return { ...line, age };
  const said = link.stale[channel];
  // Nothing that is old stands here: there never was anything.
  if (said === null) return { ...line, state: States.NEVER, age: null };
  if (said !== undefined) return { state: States.STALE, level: "red", since: said - offset, age: now + offset - said };
  if (!judged && age !== null && staleAfter !== null && age > staleAfter) {
    return { state: States.STALE, level: "red", since: lastAt - offset, age };
  }
  if (rows === 0) return { ...line, state: States.EMPTY, age };
  return { ...line, age };
}

// Whether a row may look fresh: its channel is, and it was published within `staleAfter`.
export function rowIsFresh(channelState, at, staleAfter, now, offset = 0) {
  if (channelState !== States.LIVE) return false;
  return staleAfter === null || now + offset - at <= staleAfter;
}

// `staleAfter` of a channel in ms: as the catalogue says, else what is usual.
export function staleAfterOf(entry, name = entry?.name) {
  for (const field of ["staleAfterSeconds", "staleAfter", "stale_after"]) {
    const seconds = entry?.[field];
    if (seconds === null) return null;
    if (typeof seconds === "number") return seconds * 1000;
  }
  return name in STALE_AFTER_MS ? STALE_AFTER_MS[name] : OTHER_STALE_AFTER_MS;
}

// Whether the service says in the stream when this channel is stale.
export function judgedByService(entry) {
  return typeof entry?.staleAfterSeconds === "number";
}

// --- clocks

const PROBES = 4;
const SET_MS = 50; // more than a clock that is kept right drifts over the probes

// The difference between the service's clock and ours, as NTP finds it.
export class Clock {
  offset = 0; // ms that the service's clock is ahead of ours
  doubt = null; // half the best round trip: how wrong the offset may be; null: not measured

  // `ask` resolves to the service's time in ms since 1970. The fastest of some answers is believed. Nothing
  // is learned where our clock was set meanwhile: answers from before it would be wrong by the whole step.
  // Resolves to whether something was learned; else it is to be asked again.
  async measure(ask, now = () => Date.now(), ticks = () => performance.now()) {
    const skew = now() - ticks();
    let best = null;
    for (let probe = 0; probe < PROBES; probe++) {
      const sent = now();
      const theirs = await ask();
      const back = now();
      if (best === null || back - sent < best.trip) {
        best = { trip: back - sent, offset: theirs - (sent + back) / 2 };
      }
    }
    if (Math.abs(now() - ticks() - skew) > SET_MS) return false;
    // Below the doubt it is no difference that anyone has seen.
    this.doubt = best.trip / 2;
    this.offset = Math.abs(best.offset) <= this.doubt + 1 ? 0 : best.offset;
    return true;
  }
}

// --- rows

// The rows of every channel, folded from the stream as the wire contract says (section 4).
export class Rows {
  constructor() {
    this.rows = new Map(); // channel -> key -> {seq, at, data, before}
    this.left = new Map(); // channel -> rows beyond MOST_ROWS that were not kept
    this.lastAt = new Map(); // channel -> the time of the newest event seen, by the service's clock
    this.whole = new Set(); // channels of which a complete table was had
    this.pending = new Map(); // channel -> the rows of a snapshot that is not complete yet
    this.dirty = new Map(); // channel -> Set of keys, or null: all of them
    this.named = null; // the channels that an `ack` named: what is not there is not visible
  }

  of(channel) {
    return this.rows.get(channel) ?? new Map();
  }

  apply(message) {
    switch (message.type) {
      case "event":
        this.#event(message);
        break;
      case "snapshot":
        // What is shown stays until the new rows are complete.
        for (const channel of message.channels) this.pending.set(channel, new Map());
        break;
      case "resume":
        for (const channel of message.channels) this.whole.add(channel);
        break;
      case "live":
        for (const [channel, rows] of this.pending) {
          this.rows.set(channel, rows);
          this.whole.add(channel);
          this.dirty.set(channel, null);
        }
        this.pending.clear();
        break;
      case "welcome":
        this.pending.clear();
        break;
      case "leave":
        for (const key of message.keys) {
          (this.pending.get(message.channel) ?? this.of(message.channel)).delete(key);
          this.#touch(message.channel, key);
        }
        break;
      case "ack":
        if (message.action === "filter") break; // it names the channels whose filter changed
        // Rights may narrow while we look: what is not reported any more is not shown any more.
        this.named = new Set(message.channels);
        for (const channel of [...this.rows.keys(), ...this.whole]) {
          if (!this.named.has(channel)) this.forget(channel);
        }
        break;
    }
  }

  #event({ channel, key, op, seq, data, timestamp }) {
    const filling = this.pending.get(channel);
    let rows = filling ?? this.rows.get(channel);
    if (rows === undefined) this.rows.set(channel, (rows = new Map()));
    if (timestamp > (this.lastAt.get(channel) ?? 0)) this.lastAt.set(channel, timestamp);
    if (op === "delete") rows.delete(key);
    else if (op === "append") this.#append(rows, channel, { seq, at: timestamp, data, before: null });
    else if (rows.has(key) || rows.size < MOST_ROWS) {
      rows.set(key, { seq, at: timestamp, data, before: rows.get(key)?.data ?? null });
    }
    else this.left.set(channel, (this.left.get(channel) ?? 0) + 1);
    if (filling === undefined) this.#touch(channel, key);
  }

  // A channel that is a log has no rows: the last events of it are kept.
  #append(rows, channel, entry) {
    rows.set(String(entry.seq), entry);
    if (rows.size > MOST_LOGGED) rows.delete(rows.keys().next().value);
    this.dirty.set(channel, null);
  }

  #touch(channel, key) {
    const keys = this.dirty.get(channel);
    if (keys === undefined) this.dirty.set(channel, new Set([key]));
    else if (keys !== null) keys.add(key);
  }

  forget(channel) {
    this.rows.delete(channel);
    this.pending.delete(channel);
    this.whole.delete(channel);
    this.lastAt.delete(channel);
    this.left.delete(channel);
    this.dirty.set(channel, null);
  }

  // What changed since the last call: channel -> Set of keys, or null for all.
  takeDirty() {
    const dirty = this.dirty;
    this.dirty = new Map();
    return dirty;
  }

  // Structured clones of these travel between tabs.
  dump() {
    const { rows, left, lastAt, whole, pending, named } = this;
    return { rows, left, lastAt, whole, pending, named };
  }

  load(state) {
    for (const channel of [...this.rows.keys(), ...state.rows.keys(), ...state.whole]) {
      this.dirty.set(channel, null);
    }
    Object.assign(this, state);
  }
}

// --- the stream

// What the service refused: `code`, `advice`, `retryable` and `status` are the service's own.
export class Refused extends Error {
  constructor({ code, message, advice = "", retryable = false, details = null }, status = 0) {
    super(message);
    Object.assign(this, { name: "Refused", code, advice, retryable, details, status });
  }
}

// Server-Sent Events out of pieces of text (WHATWG HTML §9.2.6); CR alone ends no line here, since
// the service never sends one.
export class SseParser {
  #rest = "";
  #name = "";
  #data = [];
  #id = null;

  // `retry` is in ms, where the service has said one; `comments` is how many came: signs of life.
  retry = null;
  comments = 0;

  feed(text) {
    const found = [];
    const lines = (this.#rest + text).split(/\r?\n/);
    this.#rest = lines.pop();
    for (const line of lines) {
      if (line === "") {
        if (this.#data.length) found.push({ name: this.#name || "message", text: this.#data.join("\n"), id: this.#id });
        this.#name = "";
        this.#data = [];
        this.#id = null;
        continue;
      }
      const colon = line.indexOf(":");
      if (colon === 0) {
        this.comments++;
        continue;
      }
      const field = colon < 0 ? line : line.slice(0, colon);
      const value = colon < 0 ? "" : line.slice(colon + (line[colon + 1] === " " ? 2 : 1));
      if (field === "event") this.#name = value;
      else if (field === "data") this.#data.push(value);
      else if (field === "id") this.#id = value;
      else if (field === "retry" && /^\d+$/.test(value)) this.retry = Number(value);
    }
    return found;
  }
}

// One stream, for as long as it takes. `emit` takes items {name, text, id, at} in order; names with
// "~" are this class's own: ~lost {retryAt, reached, tried, why}, ~ended {code, message, status},
// ~refined, and ~alive {} where the service says that all which came until then is all there is.
// `id` is the position that is safe to resume from, null while none is.
export class Stream {
  #run = null; // the AbortController of the connection that counts
  #timer = 0;
  #watch = 0;
  #failures = 0;
  #heardAt = 0;
  #beatMs = HEARTBEAT_SECONDS * 1000;
  #epoch = "";
  #filling = false;
  #line = null; // the WebSocket, while it is open
  #unanswered = 0; // changes of filters that the service has not answered
  #why = null; // what the last connection was lost by
  #refining = false; // up to the `live` of the last of them no position proves the new filter
  #asks = 0;
  #retryAt = null; // while it waits for its next try: when that is due

  constructor({
    url, query = {}, headers = {}, ticket = null, transport = "sse", emit,
    fetch = (...all) => globalThis.fetch(...all), WebSocket = globalThis.WebSocket,
    now = () => Date.now(), random = Math.random,
  }) {
    Object.assign(this, { url, headers, ticket, transport, emit, fetch, WebSocket, now, random });
    this.query = { ...query };
    this.position = null;
  }

  // Takes filter values in and lets others go. A WebSocket sends `leave` for the rows that go, and then
  // those that come in; an event stream is opened anew and starts over with a snapshot. Throws RangeError
  // where a field is not filtered by, or would have no value left: then nothing has changed.
  /** @param {Refinement} refinement */
  refine({ add = {}, remove = {} }) {
    const query = { ...this.query };
    for (const name of new Set([...Object.keys(add), ...Object.keys(remove)])) {
      if (!(name in query) || NO_FILTERS.has(name)) {
        throw new RangeError(`The stream is not filtered by "${name}": it has every value.`);
      }
      const gone = new Set([remove[name] ?? []].flat());
      const kept = [query[name]].flat().filter((value) => !gone.has(value));
      query[name] = [...new Set([...kept, ...[add[name] ?? []].flat()])];
      if (query[name].length === 0) throw new RangeError(`No value of "${name}" would be left.`);
    }
    this.query = query;
    this.position = null;
    if (this.#run === null) return;
    this.#tell("~refined", { add, remove });
    if (this.#line === null) {
      if (this.#timer === 0) this.open(null); // else the next try asks for the new filter
      return;
    }
    this.#refining = true;
    this.#unanswered++;
    const lists = (values) => Object.fromEntries(Object.entries(values).map(([name, value]) => [name, [value].flat()]));
    const channels = [query.channels].flat().flatMap((names) => names.split(","));
    const reqId = `${REFINES}${++this.#asks}`;
    this.#line.send(JSON.stringify({ action: "filter", reqId, channels, add: lists(add), remove: lists(remove) }));
  }

  open(since = this.position) {
    this.close();
    this.position = since;
    const run = (this.#run = new AbortController());
    this.#heardAt = this.now();
    this.#watch = setInterval(() => this.#check(run), 1000);
    this.#connect(run);
  }

  close() {
    clearTimeout(this.#timer);
    clearInterval(this.#watch);
    this.#run?.abort();
    this.#timer = 0;
    this.#run = this.#line = this.#retryAt = null;
    this.#unanswered = 0;
    this.#refining = false;
  }

  // Ends a connection that is silent for too long: a cable that was cut says nothing. Also to be
  // called after a sleep, when timers were held back: a try that is due by the clock is made now.
  check() {
    if (this.#run === null) return;
    if (this.#retryAt === null) this.#check(this.#run);
    else if (this.now() >= this.#retryAt) this.open();
  }

  #check(run) {
    // A clock that was set back must not hide a dead line for as long.
    const silent = Math.abs(this.now() - this.#heardAt);
    if (this.#run !== run) return;
    // A browser shows no pings.
    if (silent > ASK_MS) this.#line?.send('{"action":"heartbeat"}');
    if (silent <= SILENT_BEATS * this.#beatMs) return;
    run.abort();
    clearInterval(this.#watch);
    this.#why = "Nothing has come for too long.";
    this.#again(run, { reached: false, tried: true });
  }

  #asked() {
    const query = new URLSearchParams({ heartbeat: String(HEARTBEAT_SECONDS) });
    for (const [name, value] of Object.entries(this.query)) {
      for (const each of [value].flat()) if (each !== undefined && each !== null) query.append(name, each);
    }
    if (this.position) query.set("since", this.position);
    return query;
  }

  async #address(path, query = this.#asked(), ticket = this.ticket) {
    if (ticket) query.set("ticket", await ticket());
    return `${this.url}${path}?${query}`;
  }

  async #connect(run) {
    let fault = null;
    let reached = false;
    const opened = () => {
      reached = true;
      this.#heardAt = this.now();
    };
    const slow = setTimeout(() => !reached && run.abort(), CONNECT_MS);
    run.signal.addEventListener("abort", () => clearTimeout(slow));
    try {
      if (this.transport === "websocket") await this.#socket(run, opened);
      // A socket that never opens does not say why. This does, or carries the stream in its place.
      if (!reached && this.#run === run) await this.#events(run, opened);
      this.#why = "The connection ended.";
    } catch (error) {
      if (error instanceof Refused) fault = error;
      this.#why = fault?.message ?? (reached ? "The connection broke off." : this.#unreached(error));
    }
    clearTimeout(slow);
    if (this.#run !== run) return; // closed by us, or the watch was faster
    clearInterval(this.#watch);
    if (fault !== null && !fault.retryable) {
      this.#run = null;
      this.#tell("~ended", { code: fault.code, message: fault.message, advice: fault.advice, status: fault.status });
      return;
    }
    this.#again(run, { reached: reached || fault !== null, tried: true, after: fault?.details?.retryAfterSeconds });
  }

  #again(run, { reached, tried, after }) {
    if (this.#run !== run) return;
    const asked = this.#wait ?? (after ? after * 1000 : null);
    const backoff = Math.min(BACKOFF_MS.most, BACKOFF_MS.first * 2 ** this.#failures++);
    const wait = Math.max(asked ?? 0, backoff * (0.5 + this.random()));
    this.#wait = null;
    this.#retryAt = this.now() + wait;
    this.#tell("~lost", { retryAt: this.#retryAt, reached, tried, why: this.#why });
    this.#timer = setTimeout(() => this.open(), wait);
  }

  // A browser does not let a page know why another origin does not answer it.
  #unreached({ message }) {
    const ours = globalThis.location?.origin;
    if (!ours || new URL(this.url, ours).origin === ours) return `Nobody answers: ${message}.`;
    return `Nobody answers (${message}). Is ${ours} among the service's --allowed-origins?`;
  }

  #wait = null; // ms that the service asked us to stay away

  async #events(run, opened) {
    const headers = { Accept: "text/event-stream", ...this.headers };
    const options = { headers, signal: run.signal, cache: "no-store", credentials: "same-origin" };
    let query = this.#asked();
    if (String(query).length > LONGEST_QUERY) {
      // Many proxies take no such address: the selection goes into a body.
      Object.assign(options, { method: "POST", body: JSON.stringify(selection(query)) });
      headers["Content-Type"] = "application/json";
      query = new URLSearchParams();
    }
    // The ticket that a socket needs in place of a key is not needed here.
    const ticket = "X-API-Key" in this.headers ? null : this.ticket;
    const response = await this.fetch(await this.#address("/sse/telemetry", query, ticket), options);
    if (!response.ok) throw await refusal(response);
    if (!(response.headers.get("Content-Type") ?? "").startsWith("text/event-stream")) {
      await response.body?.cancel();
      throw new TypeError("This is no event stream: something between us answers instead.");
    }
    opened();
    const parser = new SseParser();
    const decoder = new TextDecoder();
    const reader = response.body.getReader();
    for (;;) {
      // Read as fast as we handle and no faster: when we are slow the service conflates for us.
      const { done, value } = await reader.read();
      if (done || this.#run !== run) return;
      let began = performance.now();
      const comments = parser.comments;
      for (const { name, text, id } of parser.feed(decoder.decode(value, { stream: true }))) {
        this.#take(name, text, id);
        if (this.#run !== run) return;
        if (performance.now() - began < TURN_MS) continue;
        await turn(); // so that a page draws, and answers to its user, however much comes
        began = performance.now();
        if (this.#run !== run) return;
      }
      if (parser.comments > comments) {
        this.#heardAt = this.now();
        this.#tell("~alive", {});
      }
    }
  }

  async #socket(run, opened) {
    if (this.WebSocket === undefined) return; // Node 20
    const address = new URL(await this.#address("/ws/telemetry"), globalThis.location?.href);
    if (this.#run !== run) return;
    address.protocol = address.protocol.replace("http", "ws");
    const socket = new this.WebSocket(address.href, ["telecast.v1"]);
    await new Promise((resolve) => {
      const end = () => {
        clearTimeout(blocked);
        if (this.#line === socket) this.#line = null;
        socket.close();
        resolve();
      };
      const blocked = setTimeout(end, UPGRADE_MS);
      run.signal.addEventListener("abort", end);
      socket.onopen = () => {
        clearTimeout(blocked);
        if (this.#run === run) this.#line = socket;
        opened();
      };
      socket.onmessage = ({ data }) => this.#run === run && this.#take(null, data, null);
      socket.onclose = end;
      socket.onerror = () => {};
    });
  }

  #take(name, text, id) {
    const at = (this.#heardAt = this.now());
    const message = JSON.parse(text);
    const type = message.type;
    if (type === "welcome") {
      this.#failures = 0;
      this.#beatMs = message.heartbeatSeconds * 1000;
      this.#epoch = message.head.split(":")[0];
    }
    if (type === "snapshot") {
      // Cut short, it leaves nothing to go on from: another snapshot has to be asked for.
      this.#filling = true;
      this.position = null;
    } else if (type === "live" || type === "resume") this.#filling = false;
    if (type === "ack" && message.action === "filter") this.#unanswered--;
    if (type === "live" && this.#unanswered === 0) this.#refining = false;
    if (!this.#refining) {
      if (type === "live" || type === "heartbeat") this.position = message.position;
      else if (type === "event" && !this.#filling) this.position = id || `${this.#epoch}:${message.seq}`;
    }
    if (type === "notice") this.#wait = message.retryAfterMs;
    this.emit({ name: name ?? (type === "event" ? message.channel : type), text, id: this.position, at });
    // Refused: the connection that asks for the new filter says why.
    if (type === "error" && String(message.reqId).startsWith(REFINES)) this.open(null);
    if (type === "notice" && !message.retryable) {
      this.close();
      this.#tell("~ended", { code: message.code, message: message.message, status: 0 });
    }
  }

  #tell(name, body) {
    this.emit({ name, text: JSON.stringify(body), id: this.position, at: this.now() });
  }
}

// What a query asks for, as the body of POST /sse/telemetry has it.
function selection(query) {
  const body = { filter: {} };
  for (const [name, value] of query) {
    if (name === "channels") body.channels = [...(body.channels ?? []), ...value.split(",")];
    else if (name === "replay" || name === "position") body[name] = value === "true";
    else if (name === "heartbeat" || name === "maxRate") body[name] = Number(value);
    else if (name === "since" || name === "delivery" || name === "clientId") body[name] = value;
    else (body.filter[name] ??= []).push(value);
  }
  return body;
}

// Lets all else have its turn. A timer would be held back in a hidden tab.
function turn() {
  if (typeof setImmediate === "function") return new Promise((resolve) => setImmediate(resolve));
  return new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      port1.close();
      resolve();
    };
    port2.postMessage(null);
  });
}

async function refusal(response) {
  try {
    const { error } = await response.json();
    return new Refused(error, response.status);
  } catch {
    return new TypeError(`HTTP ${response.status}`); // no answer of the service's: try again
  }
}

// --- for applications

// A table that is always current: iterate it, or ask by key. `onchange(view, changes)` is called
// for each batch that was folded, and when the state changes.
export class View {
  #stream;
  #rows = new Rows();
  #link;
  #clock;
  #now;
  #timer;
  #shown = "";

  constructor({ client, channel, filter = {}, onchange = () => {}, now = () => Date.now() }) {
    Object.assign(this, { channel, onchange });
    this.#now = now;
    this.#link = newLink(now());
    this.#clock = client.clock;
    this.staleAfter = staleAfterOf(null, channel);
    this.#stream = client.stream({ channels: channel, ...filter }, (item) => this.#take(item));
    this.judged = false;
    client.ready.then(() => {
      this.staleAfter = client.staleAfter(channel);
      this.judged = client.judged(channel);
    });
    this.#stream.open(null);
    this.#timer = setInterval(() => this.#changed(null), 250);
  }

  #take(item) {
    const message = JSON.parse(item.text);
    this.#link = foldLink(this.#link, item, message, this.#clock.offset);
    this.#rows.apply(message);
    this.#changed(message.type === "event" ? message : null);
  }

  #changed(event) {
    const state = this.state;
    const keys = this.#rows.takeDirty().get(this.channel);
    if (keys === undefined && state === this.#shown) return;
    this.#shown = state;
    this.onchange(this, { keys: keys ?? null, event });
  }

  get freshness() {
    const rows = this.#rows;
    const facts = {
      channel: this.channel, visible: true, whole: rows.whole.has(this.channel), rows: this.size,
      lastAt: rows.lastAt.get(this.channel) ?? null, staleAfter: this.staleAfter, judged: this.judged,
    };
    return freshness(this.#link, facts, this.#now(), this.#clock.offset);
  }

  // Other values of its filter from now on; it is `loading` until its rows are those. See Stream.refine.
  /** @param {Refinement} refinement */
  refine(refinement) {
    this.#stream.refine(refinement);
  }

  /** @returns {string} one of `States`; only `live` means that the rows are how it is */
  get state() {
    return this.freshness.state;
  }

  /** @returns {{ [field: string]: any } | null} why it will not come back; null while it may */
  get ended() {
    return this.#link.ended;
  }

  /** @returns {string | null} why it is not live, in a sentence, where that is known */
  get reason() {
    return this.ended?.message ?? (this.#link.phase === "live" ? null : this.#link.why);
  }

  /** @returns {string | null} */
  get position() {
    return this.#stream.position;
  }

  /** @returns {number} */
  get size() {
    return this.#rows.of(this.channel).size;
  }

  /** @param {string} key @returns {boolean} */
  has(key) {
    return this.#rows.of(this.channel).has(key);
  }

  /** @param {string} key @returns {Row | undefined} */
  get(key) {
    return this.#rows.of(this.channel).get(key)?.data;
  }

  /** @returns {Generator<[string, Row], void, unknown>} */
  *[Symbol.iterator]() {
    for (const [key, { data }] of this.#rows.of(this.channel)) yield [key, data];
  }

  close() {
    clearInterval(this.#timer);
    this.#stream.close();
  }
}

const MOST_WAITING = 10_000;
const UNSAID = new Set(["heartbeat", "~refined", "~alive"]); // what an application has no use for

export class Client {
  #catalogue = new Map();

  // `key` goes into a header; `ticket` is a function that resolves to a ticket, for pages that are
  // not the service's own; with neither, the browser's session counts. Without `prepare` neither the
  // clocks are compared nor the catalogue is asked: `clock` is then the caller's to measure.
  /** @param {string} [url] @param {Options} [options] */
  constructor(url = "", { key = null, ticket = null, transport = "sse", fetch, WebSocket, prepare = true } = {}) {
    this.url = url.replace(/\/+$/, "");
    this.transport = transport;
    this.clock = new Clock();
    this.options = Object.fromEntries(Object.entries({ fetch, WebSocket }).filter(([, value]) => value));
    this.headers = key === null ? {} : { "X-API-Key": key };
    this.fetch = fetch ?? ((...all) => globalThis.fetch(...all));
    // A browser's WebSocket can't send a header: a ticket is got with the key.
    const socket = key !== null && transport === "websocket";
    this.ticket = ticket ?? (socket ? async () => (await this.call("POST", "/api/v1/tickets")).ticket : null);
    this.ready = ticket || !prepare ? Promise.resolve() : this.#prepare().catch(() => {});
  }

  async #prepare() {
    await this.clock.measure(async () => (await this.answer("GET", "/api/v1/session")).at);
    for (const entry of await this.channels()) this.#catalogue.set(entry.name, entry);
  }

  staleAfter(channel) {
    return staleAfterOf(this.#catalogue.get(channel) ?? null, channel);
  }

  judged(channel) {
    return judgedByService(this.#catalogue.get(channel));
  }

  stream(query, emit, more = {}) {
    const { url, headers, ticket, transport, options } = this;
    return new Stream({ url, headers, ticket, transport, query, emit, ...options, ...more });
  }

  // Rejects with Refused where the service says no, with TypeError where nobody answers.
  async answer(method, path, body, headers = {}) {
    const said = { method, headers: { Accept: "application/json", ...this.headers, ...headers } };
    if (body !== undefined) {
      said.headers["Content-Type"] = "application/json";
      said.body = JSON.stringify(body);
    }
    const response = await this.fetch(this.url + path, said);
    if (!response.ok) throw await refusal(response);
    const { data, timestamp } = await response.json();
    return { data, at: Date.parse(timestamp) };
  }

  async call(method, path, body, headers) {
    return (await this.answer(method, path, body, headers)).data;
  }

  /** @returns {Promise<{ [field: string]: any }[]>} */
  channels() {
    return this.call("GET", "/api/v1/channels");
  }

  // The current table of a channel, kept up to date: see View.
  /**
   * @param {string} channel
   * @param {{ filter?: Filter, onchange?: (view: View, changed: Changed) => void }} [options]
   */
  view(channel, { filter = {}, onchange } = {}) {
    return new View({ client: this, channel, filter, onchange });
  }

  // Every change of some channels, from a position on: {channel, op, key, row, position, event}.
  // What happened to the connection in between comes as {state, message}. It ends when `signal` is
  // aborted, and throws Refused where coming back can't help. A reader that is so slow that 10,000
  // wait is cut off, and goes on from where it was. `refine` of what it returns changes the filter, see
  // Stream.refine: each row that leaves comes with `op` "leave", and no change has a position until `live`.
  /**
   * @param {string | string[]} channels
   * @param {{ since?: string | null, filter?: Filter, delivery?: "all" | "conflated", signal?: AbortSignal | null }} [options]
   * @returns {AsyncGenerator<Change, void, unknown> & { refine(refinement: Refinement): void }}
   */
  follow(channels, { since = null, filter = {}, delivery = "all", signal = null } = {}) {
    const waiting = { items: [], wake: () => {} };
    const query = { channels: [channels].flat().join(","), delivery, ...filter };
    const stream = this.stream(query, (item) => {
      waiting.items.push(item);
      if (waiting.items.length === MOST_WAITING) stream.close();
      waiting.wake();
    });
    const refine = (refinement) => stream.refine(refinement);
    return Object.assign(this.#changes(stream, waiting, since, signal), { refine });
  }

  async *#changes(stream, waiting, since, signal) {
    let ended = false;
    const abort = () => ((ended = true), waiting.wake());
    signal?.addEventListener("abort", abort);
    stream.open(since);
    try {
      for (;;) {
        while (waiting.items.length) {
          const full = waiting.items.length >= MOST_WAITING;
          for (const { name, text, id } of waiting.items.splice(0)) {
            const message = JSON.parse(text);
            if (name === "~ended") throw new Refused(message, message.status);
            if (ended || signal?.aborted) return;
            if (message.type === "event") {
              const { channel, op, key, data } = message;
              yield { channel, op, key, row: data, position: id, event: message };
            } else if (name === "leave") {
              for (const key of message.keys) yield { channel: message.channel, op: name, key, position: id };
            } else if (!UNSAID.has(name)) yield { state: name.replace("~", ""), message, position: id };
          }
          if (full) stream.open(); // from the last that was handled, unless the filter has changed
        }
        if (ended || signal?.aborted) return;
        await new Promise((resolve) => (waiting.wake = resolve));
      }
    } finally {
      signal?.removeEventListener("abort", abort);
      stream.close();
    }
  }

  // Resolves once it is committed, to {position, seq, duplicate, ...}. What fails on the way is sent
  // again under the same key, so that it counts once.
  /**
   * @param {string} channel
   * @param {Row | Row[]} row
   * @param {{ idempotencyKey?: string, attempts?: number }} [options]
   * @returns {Promise<{ [field: string]: any }>}
   */
  async publish(channel, row, { idempotencyKey = crypto.randomUUID(), attempts = 5 } = {}) {
    const path = `/api/v1/channels/${encodeURIComponent(channel)}/events`;
    for (let attempt = 1; ; attempt++) {
      try {
        return await this.call("POST", path, row, { "Idempotency-Key": idempotencyKey });
      } catch (fault) {
        if (attempt >= attempts || (fault instanceof Refused && !fault.retryable)) throw fault;
        const wait = Math.min(BACKOFF_MS.most, BACKOFF_MS.first * 2 ** (attempt - 1));
        await new Promise((resolve) => setTimeout(resolve, wait * (0.5 + Math.random())));
      }
    }
  }

  // Seen by an operator; needs the scope `operate`. `undo` takes it back.
  /**
   * @param {string} id
   * @param {{ note?: string, undo?: boolean }} [options]
   * @returns {Promise<{ [field: string]: any }>}
   */
  acknowledge(id, { note = "", undo = false } = {}) {
    const path = `/api/v1/risk-alerts/${encodeURIComponent(id)}/${undo ? "unacknowledge" : "acknowledge"}`;
    return this.call("POST", path, note ? { note } : {});
  }

  /**
   * @param {string} channel
   * @param {{ after?: string | null, to?: string | null, limit?: number, filter?: Filter }} [options]
   * @returns {Promise<any>}
   */
  history(channel, { after = null, to = null, limit = 1000, filter = {} } = {}) {
    const query = new URLSearchParams({ limit: String(limit) });
    if (after) query.set("after", after);
    if (to) query.set("to", to);
    for (const [name, value] of Object.entries(filter)) for (const each of [value].flat()) query.append(name, each);
    return this.call("GET", `/api/v1/channels/${encodeURIComponent(channel)}/events?${query}`);
  }

  /**
   * @param {string} channel
   * @param {{ limit?: number, cursor?: string | null, filter?: Filter }} [options]
   * @returns {Promise<any>}
   */
  snapshot(channel, { limit = 1000, cursor = null, filter = {} } = {}) {
    const query = new URLSearchParams({ limit: String(limit) });
    if (cursor) query.set("cursor", cursor);
    for (const [name, value] of Object.entries(filter)) for (const each of [value].flat()) query.append(name, each);
    return this.call("GET", `/api/v1/channels/${encodeURIComponent(channel)}/snapshot?${query}`);
  }
}
