// Messages as they came, newest first: held still, narrowed, searched, and with what differs from the
// message before of the same row. It keeps the last few hundred.

import { difference } from "./detail.js";
import { make, options, set } from "./dom.js";
import { count, time } from "./format.js";
import { T } from "./texts.js";

const KEPT = 400;
const SHOWN = 60;
const EVERY_MS = 200; // faster than this nobody reads
const MOST_ROWS = 20_000; // whose last message is kept for the difference
const R = T.raw;

export class Messages {
  #items = [];
  #lines = [];
  #paused = null; // the items as they were
  #dirty = true;
  #drawnAt = 0;
  #total = 0;
  #pausedTotal = 0;
  #search = "";
  #differs = false;
  #before = new Map(); // channel and key -> the last text

  // `id` begins the ids of its elements; `tools` takes its buttons, `body` the list. `deep` ones have
  // a search and the difference too.
  constructor({ id, body, tools, note, channels, schedule, deep = false }) {
    Object.assign(this, { id, note, schedule, deep, channels: new Set() });
    this.list = make("ol", "messages");
    Object.assign(this.list, { id: `${id}-list`, tabIndex: 0 });
    this.list.setAttribute("aria-label", R.list);
    this.filter = tools.appendChild(make("select"));
    this.filter.id = `${id}-filter`;
    this.filter.setAttribute("aria-label", R.all);
    options(this.filter, [["", R.all], ["~", R.connection]]);
    this.filter.addEventListener("change", () => this.#redraw());
    for (const channel of channels) this.know(channel);
    if (deep) {
      const search = tools.appendChild(make("input"));
      Object.assign(search, { id: `${id}-search`, type: "search", placeholder: R.search, spellcheck: false });
      search.setAttribute("aria-label", R.search);
      search.addEventListener("input", () => {
        this.#search = search.value.toLowerCase();
        this.#redraw();
      });
      this.#toggle(tools, "diff", R.difference, (on) => (this.#differs = on));
    }
    this.#toggle(tools, "wrap", R.wrap, (on) => this.list.classList.toggle("wrapped", on));
    const pause = this.#toggle(tools, "pause", R.pause, (on) => {
      this.#paused = on ? [...this.#items] : null;
      this.#pausedTotal = this.#total;
      set(pause, on ? R.resume : R.pause);
    });
    body.append(this.list);
  }

  #toggle(tools, name, text, act) {
    const made = tools.appendChild(make("button", "", text));
    Object.assign(made, { id: `${this.id}-${name}`, type: "button" });
    made.setAttribute("aria-pressed", "false");
    made.addEventListener("click", () => {
      const on = made.getAttribute("aria-pressed") !== "true";
      made.setAttribute("aria-pressed", String(on));
      act(on);
      this.#redraw();
    });
    return made;
  }

  // A channel that the catalogue names.
  know(channel) {
    if (this.channels.has(channel)) return;
    this.channels.add(channel);
    const option = this.filter.appendChild(make("option", "", channel));
    option.value = channel;
  }

  // `item` is one of a stream: {name, text, at}.
  add(item) {
    if (item.name.startsWith("~") && !this.deep) return;
    this.#total++;
    this.#items.push(this.deep ? this.#withBefore(item) : item);
    if (this.#items.length >= 2 * KEPT) this.#items.splice(0, this.#items.length - KEPT);
    this.#dirty = true;
  }

  #withBefore(item) {
    if (!this.channels.has(item.name)) return item;
    const { channel, key } = JSON.parse(item.text);
    const row = `${channel}\n${key}`;
    const before = this.#before.get(row);
    this.#before.delete(row); // so that the row that was quiet for longest goes first
    this.#before.set(row, item.text);
    if (this.#before.size > MOST_ROWS) this.#before.delete(this.#before.keys().next().value);
    return before === undefined ? item : { ...item, before };
  }

  // The newest for a tab that comes late.
  dump() {
    return this.#items.slice(-SHOWN);
  }

  #redraw() {
    this.#dirty = true;
    this.#drawnAt = 0;
    this.schedule();
  }

  // Whether there is something that is not drawn yet.
  render(now) {
    if (!this.#dirty || now - this.#drawnAt < EVERY_MS) return this.#dirty;
    this.#dirty = false;
    this.#drawnAt = now;
    const items = this.#paused ?? this.#items;
    let index = 0;
    for (let i = items.length - 1; i >= 0 && index < SHOWN; i--) {
      const item = items[i];
      const isChannel = this.channels.has(item.name);
      if (!this.#wants(item, isChannel)) continue;
      const line = this.#line(index++);
      set(line.at, time(item.at));
      set(line.name, item.name);
      set(line.text, this.#differs && isChannel ? changed(item) : item.text);
      line.li.dataset.kind = isChannel ? "event" : item.name;
    }
    while (this.#lines.length > index) this.#lines.pop().li.remove();
    set(this.note, this.#paused === null ? "" : R.held(count(this.#total - this.#pausedTotal)));
    return false;
  }

  #wants(item, isChannel) {
    const wanted = this.filter.value;
    if (wanted && (wanted === "~" ? isChannel : item.name !== wanted)) return false;
    return !this.#search || item.text.toLowerCase().includes(this.#search);
  }

  #line(index) {
    if (index < this.#lines.length) return this.#lines[index];
    const li = this.list.appendChild(make("li"));
    const line = {
      li, at: li.appendChild(make("span", "at", " ")), name: li.appendChild(make("span", "name", " ")),
      text: li.appendChild(make("code", "", " ")),
    };
    this.#lines.push(line);
    return line;
  }
}

function changed({ text, before }) {
  const { op, key, data } = JSON.parse(text);
  if (before === undefined) return R.first(op, key);
  const found = difference(JSON.parse(before).data, data).map(([path, old, now]) => `${path} ${words(old)} → ${words(now)}`);
  return `${key}: ${found.join(", ") || R.same}`;
}

function words(value) {
  return value === undefined ? "–" : String(value);
}
