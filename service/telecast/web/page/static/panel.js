// The frame of a panel: its title and state, its place and size, and the menu that changes them.

import { States } from "../client/telecast.js";
import { button, find, make, menu, set } from "./dom.js";
import { span, time } from "./format.js";
import { T } from "./texts.js";

const ROW = 10; // px: the grid's unit of height
const STEP = 60;

export class Panel {
  // `layout` is a Layout; `id` is the panel's name everywhere.
  constructor(id, title, layout) {
    Object.assign(this, { id, title, layout });
    this.section = make("section", "panel");
    this.section.id = id;
    this.section.tabIndex = -1;
    this.section.setAttribute("aria-labelledby", `${id}-title`);
    this.head = this.section.appendChild(make("div", "panel-head"));
    this.heading = this.head.appendChild(make("h2", "", title));
    this.heading.id = `${id}-title`;
    this.count = this.head.appendChild(make("span", "quiet count"));
    this.fresh = this.head.appendChild(make("span", "fresh"));
    this.tools = this.head.appendChild(make("span", "tools"));
    const { details, body } = menu("⋯", `${T.menu}: ${title}`);
    details.classList.add("panel-menu");
    this.tools.append(details);
    const items = T.menuItems;
    const act = (word, does) => body.append(button(items[word], does, word));
    act("maximise", () => layout.maximise(this.id));
    act("wider", () => layout.resize(this.id, 1, 0));
    act("narrower", () => layout.resize(this.id, -1, 0));
    act("taller", () => layout.resize(this.id, 0, STEP));
    act("shorter", () => layout.resize(this.id, 0, -STEP));
    act("earlier", () => layout.move(this.id, -1));
    act("later", () => layout.move(this.id, 1));
    act("hide", () => layout.show(this.id, false));
    this.body = this.section.appendChild(make("div", "panel-body"));
    this.handle = this.section.appendChild(make("div", "handle"));
    this.handle.setAttribute("aria-hidden", "true"); // the menu does the same by keyboard
    this.handle.addEventListener("pointerdown", (event) => this.#drag(event));
    this.head.addEventListener("dblclick", ({ target }) => {
      if (!target.closest("button, select, details")) layout.maximise(this.id);
    });
  }

  #drag(event) {
    event.preventDefault();
    this.handle.setPointerCapture(event.pointerId);
    const box = this.section.getBoundingClientRect();
    const column = this.section.parentElement.clientWidth / 12;
    const move = ({ clientX, clientY }) =>
      this.layout.prefs.resize(this.id, { w: (clientX - box.left) / column, h: clientY - box.top });
    this.handle.addEventListener("pointermove", move);
    const stop = () => this.handle.removeEventListener("pointermove", move);
    this.handle.addEventListener("pointerup", stop, { once: true });
    this.handle.addEventListener("pointercancel", stop, { once: true });
  }

  // Says how fresh what stands here is, in words and colour.
  state({ state, level, since, age, delay }, now) {
    this.section.dataset.state = state;
    this.fresh.dataset.level = level || (state === States.LIVE || state === States.EMPTY ? "good" : "");
    set(this.fresh, words(state, since, age, delay, now));
  }
}

function words(state, since, age, delay, now) {
  if (state === States.STALE) return T.panelStale(time(since, now), span(age));
  if (state === States.DELAYED) return T.panelDelayed(span(delay));
  if ((state === States.LIVE || state === States.EMPTY) && age !== null) return age < 1000 ? T.panelNow : T.panelAge(span(Math.floor(age / 1000) * 1000));
  return T.panelWords[state];
}

// Where the panels stand: the one place that changes it.
export class Layout {
  #maximised = null;

  constructor(main, prefs) {
    Object.assign(this, { main, prefs, panels: new Map() });
    prefs.onchange((name) => {
      if (["order", "sizes", "hidden"].includes(name)) this.apply();
    });
  }

  add(id, title) {
    const panel = new Panel(id, title, this);
    this.panels.set(id, panel);
    return panel;
  }

  apply() {
    const order = this.prefs.place([...this.panels.keys()]);
    const hidden = this.prefs.get("hidden");
    let before = this.main.firstElementChild;
    for (const id of order) {
      const { section } = this.panels.get(id);
      const { w, h } = this.prefs.size(id);
      section.style.setProperty("--w", w);
      section.style.setProperty("--h", Math.ceil(h / ROW));
      section.hidden = this.#maximised !== null ? this.#maximised !== id : hidden.includes(id);
      section.classList.toggle("maximised", this.#maximised === id);
      if (section === before) before = before.nextElementSibling;
      else this.main.insertBefore(section, before);
    }
    this.changed?.();
  }

  resize(id, columns, height) {
    const { w, h } = this.prefs.size(id);
    this.prefs.resize(id, { w: w + columns, h: h + height });
  }

  move(id, steps) {
    this.prefs.move(id, steps, [...this.panels.keys()]);
    find(id)?.querySelector(".panel-menu summary")?.focus();
  }

  show(id, shown) {
    this.prefs.show(id, shown);
  }

  maximise(id) {
    this.#maximised = this.#maximised === id ? null : id;
    for (const panel of this.panels.values()) {
      set(panel.head.querySelector(".maximise"), this.#maximised === panel.id ? T.menuItems.restore : T.menuItems.maximise);
    }
    this.apply();
  }

  // Whether there was one.
  restore() {
    if (this.#maximised === null) return false;
    this.maximise(this.#maximised);
    return true;
  }

  // Where the keyboard goes: to what the panel holds, or to the `whole` of it while that changes.
  go(id, { whole = false } = {}) {
    const panel = this.panels.get(id);
    if (panel === undefined) return;
    if (this.#maximised !== null && this.#maximised !== id) this.restore();
    if (this.prefs.get("hidden").includes(id)) this.show(id, true);
    const target = whole ? panel.section : panel.section.querySelector(".scroller:not([hidden], [hidden] *), [tabindex]:not([hidden] *)") ?? panel.section;
    panel.section.scrollIntoView({ block: "nearest" });
    target.focus({ preventScroll: true });
  }

  // The panel that has the focus.
  get focused() {
    return document.activeElement?.closest(".panel")?.id ?? null;
  }
}
