// The last messages as they came.

import { time } from "./format.js";
import { make, set } from "./tables.js";

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

  constructor(section, channels, schedule) {
    const find = (id) => section.querySelector(id);
    this.list = find("#raw-list");
    this.count = find("#raw-count");
    this.filter = find("#raw-filter");
    this.schedule = schedule;
    for (const [value, text] of [["", "All messages"], ...channels.map((c) => [c, c]), ["~", "Connection only"]]) {
      const option = this.filter.appendChild(make("option", "", text));
      option.value = value;
    }
    this.channels = new Set(channels);
    this.filter.addEventListener("change", () => this.#redraw());
    this.pause = find("#raw-pause");
    this.pause.addEventListener("click", () => {
      this.#paused = this.#paused === null ? [...this.#items] : null;
      this.#pausedTotal = this.#total;
      this.pause.setAttribute("aria-pressed", String(this.#paused !== null));
      set(this.pause, this.#paused === null ? "Pause" : "Go on");
      this.#redraw();
    });
    const wrap = find("#raw-wrap");
    wrap.addEventListener("click", () => {
      const wrapped = this.list.classList.toggle("wrapped");
      wrap.setAttribute("aria-pressed", String(wrapped));
    });
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
    set(this.count, this.#paused === null ? "" : `held still, ${newer.toLocaleString("en")} newer`);
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
