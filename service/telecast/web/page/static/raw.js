// The last messages as they came.

import { make, set } from "./dom.js";
import { count, time } from "./format.js";
import { T } from "./texts.js";

const KEPT = 400;
const SHOWN = 60;
const EVERY_MS = 200; // faster than this nobody reads

export class Raw {
  #items = [];
  #lines = [];
  #paused = null; // the items as they were
  #dirty = true;
  #drawnAt = 0;
  #total = 0;
  #pausedTotal = 0;

  // `panel` is the frame that it stands in.
  constructor(panel, channels, schedule) {
    this.list = panel.body.appendChild(make("ol"));
    Object.assign(this.list, { id: "raw-list", tabIndex: 0 });
    this.list.setAttribute("aria-labelledby", "raw-title");
    this.count = panel.count;
    this.count.id = "raw-count";
    this.filter = panel.tools.appendChild(make("select"));
    this.filter.id = "raw-filter";
    this.filter.setAttribute("aria-label", T.raw.all);
    this.schedule = schedule;
    for (const [value, text] of [["", T.raw.all], ...channels.map((c) => [c, c]), ["~", T.raw.connection]]) {
      const option = this.filter.appendChild(make("option", "", text));
      option.value = value;
    }
    this.channels = new Set(channels);
    this.filter.addEventListener("change", () => this.#redraw());
    const wrap = panel.tools.appendChild(make("button", "", T.raw.wrap));
    Object.assign(wrap, { id: "raw-wrap", type: "button" });
    wrap.setAttribute("aria-pressed", "false");
    this.pause = panel.tools.appendChild(make("button", "", T.raw.pause));
    Object.assign(this.pause, { id: "raw-pause", type: "button" });
    this.pause.setAttribute("aria-pressed", "false");
    this.pause.addEventListener("click", () => {
      this.#paused = this.#paused === null ? [...this.#items] : null;
      this.#pausedTotal = this.#total;
      this.pause.setAttribute("aria-pressed", String(this.#paused !== null));
      set(this.pause, this.#paused === null ? T.raw.pause : T.raw.resume);
      this.#redraw();
    });
    wrap.addEventListener("click", () => {
      const wrapped = this.list.classList.toggle("wrapped");
      wrap.setAttribute("aria-pressed", String(wrapped));
    });
  }

  // A channel that the catalogue names beyond the usual ones.
  know(channel) {
    this.channels.add(channel);
    const option = this.filter.appendChild(make("option", "", channel));
    option.value = channel;
  }

  add(item) {
    if (item.name.startsWith("~")) return;
    this.#total++;
    this.#items.push(item);
    if (this.#items.length >= 2 * KEPT) this.#items.splice(0, this.#items.length - KEPT);
    this.#dirty = true;
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

  render(now) {
    if (!this.#dirty || now - this.#drawnAt < EVERY_MS) return this.#dirty;
    this.#dirty = false;
    this.#drawnAt = now;
    const wanted = this.filter.value;
    const items = this.#paused ?? this.#items;
    let index = 0;
    for (let i = items.length - 1; i >= 0 && index < SHOWN; i--) {
      const item = items[i];
      const isChannel = this.channels.has(item.name);
      if (wanted && (wanted === "~" ? isChannel : item.name !== wanted)) continue;
      const line = this.#line(index++);
      set(line.at, time(item.at));
      set(line.name, item.name);
      set(line.text, item.text);
      line.li.dataset.kind = isChannel ? "event" : item.name;
    }
    while (this.#lines.length > index) this.#lines.pop().li.remove();
    const newer = this.#total - this.#pausedTotal;
    set(this.count, this.#paused === null ? "" : T.raw.held(count(newer)));
    return false;
  }

  #line(index) {
    if (index < this.#lines.length) return this.#lines[index];
    const li = this.list.appendChild(make("li"));
    const line = {
      li,
      at: li.appendChild(make("span", "at", " ")),
      name: li.appendChild(make("span", "name", " ")),
      text: li.appendChild(make("code", "", " ")),
    };
    this.#lines.push(line);
    return line;
  }
}
