// A table that follows a map of rows. Only the rows in sight have elements, and of these only the
// cells that differ are touched, so that 10,000 rows cost no more than 30.

import { buildGroup, buildRow, paintRow } from "./cells.js";
import { make, set } from "./dom.js";
import { count } from "./format.js";
import { Head } from "./head.js";
import { Order } from "./order.js";
import { T } from "./texts.js";

const HEIGHT = { normal: 46, compact: 30 };
const OVERSCAN = 6;
const FLOW_STEP = 100; // rows of a table whose rows have their own height
const LARGE = 1000; // from here on it is sorted anew at most twice a second
const SORT_MS = 500;
const MOST_PINS = 10; // more would leave no room for the others

export class Table {
  #elements = new Map(); // key -> {tr, cells}
  #pins = []; // keys that stay on top
  #lines = []; // what there is to see below them, in order: {key} or {group}
  #rows = new Map();
  #search = "";
  #stale = true; // the order is not that of the rows any more
  #order = new Order();
  #changed = null; // the keys that the order has not seen yet; null: any
  #sortedAt = 0;
  #upper = make("tr", "spacer");
  #lower = make("tr", "spacer");
  #limit = FLOW_STEP;
  #selected = null;
  // What the layout was last: asked in a frame, each table would lay out the page. The place, what the
  // table takes of it, and how far it is scrolled.
  #width = 0;
  #height = 0;
  #taken = 0;
  #top = 0;
  #about = null; // what it was drawn with last
  #fitted = false; // else it is looked at once whether all columns have room

  constructor({ id, view, prefs, context, open, changed }) {
    Object.assign(this, { id, view, prefs, context, open, changed });
    this.element = make("div", "table-box");
    this.scroller = this.element.appendChild(make("div", "scroller"));
    this.scroller.tabIndex = 0;
    this.scroller.setAttribute("role", "group");
    this.scroller.setAttribute("aria-labelledby", `${id}-title`);
    this.table = this.scroller.appendChild(make("table"));
    this.table.setAttribute("aria-labelledby", `${id}-title`);
    this.head = new Head({ id, view, prefs, sorted: () => this.resort() });
    this.table.append(this.head.element);
    this.top = make("tbody", "pins"); // stands in the table while there are any
    this.top.setAttribute("aria-label", T.pinned);
    this.body = this.table.appendChild(make("tbody"));
    this.empty = this.element.appendChild(make("p", "empty quiet"));
    this.more = this.element.appendChild(make("p", "more quiet"));
    for (const spacer of [this.#upper, this.#lower]) spacer.setAttribute("aria-hidden", "true");
    this.scroller.addEventListener("scroll", () => {
      this.#top = this.scroller.scrollTop;
      if (this.#about !== null) this.#draw(this.#about); // this table alone, in this frame
    }, { passive: true });
    this.scroller.addEventListener("keydown", (event) => this.#key(event));
    this.table.addEventListener("focusin", ({ target }) => {
      this.#selected = target.closest("tr[data-key]")?.dataset.key ?? null;
    });
    this.table.addEventListener("click", ({ target }) => {
      const tr = target.closest("tr[data-key]");
      if (tr && !target.closest("button, a") && !getSelection()?.toString()) this.open(tr.dataset.key);
    });
    this.columnsChanged();
    new ResizeObserver(() => this.#resized()).observe(this.scroller);
    new ResizeObserver(([{ contentRect }]) => {
      this.#taken = contentRect.width;
      if (this.#isCut) this.changed();
    }).observe(this.table);
  }

  get columns() {
    return this.head.columns;
  }

  get shown() {
    return this.head.shown;
  }

  columnsChanged() {
    this.head.fill();
    for (const body of [this.top, this.body]) body.replaceChildren();
    this.#elements.clear();
    this.#stale = true;
    this.#sortedAt = 0;
    this.#fitted = false;
  }

  #resized() {
    const width = this.scroller.clientWidth;
    this.#height = this.scroller.clientHeight;
    this.#top = this.scroller.scrollTop;
    if (width !== this.#width && this.head.widen()) this.columnsChanged();
    this.#width = width;
    this.#fitted = false;
    this.changed();
  }

  // Whether it is wider than its place, and can be made narrower.
  get #isCut() {
    return this.#width > 0 && this.#taken > this.#width + 1 && this.head.spare !== undefined;
  }

  resort() {
    this.#stale = true;
    this.#sortedAt = 0;
    this.changed();
  }

  // `keys` are those that changed, null means any.
  follow(rows, keys) {
    this.#rows = rows;
    this.#stale = true;
    if (keys === null) {
      this.#changed = null;
      this.#sortedAt = 0;
      return;
    }
    for (const key of keys) {
      this.#changed?.add(key);
      const element = this.#elements.get(key);
      if (element !== undefined) element.dirty = true;
    }
  }

  // What the rows are joined with has changed.
  repaint() {
    this.follow(this.#rows, new Set(this.#rows.keys()));
  }

  search(text) {
    if (text === this.#search) return;
    this.#search = text;
    this.#limit = FLOW_STEP;
    this.resort();
  }

  // `state` is the channel's freshness; `left` are rows beyond what is kept.
  render({ state, staleAfter, now, offset, left = 0 }) {
    const large = this.#rows.size > LARGE;
    const empty = this.#empty;
    if (this.#stale && (!large || now - this.#sortedAt >= SORT_MS)) this.#arrange(now);
    if (empty && !this.#empty) this.#fitted = false; // the first rows are not cut for a moment either
    this.#about = { state, staleAfter, now, offset, left };
    this.#draw(this.#about);
    if (this.#fitted && !this.#isCut) return;
    while (this.#fit()) this.#draw(this.#about);
    this.#fitted = true;
  }

  // Leaves out a column where the table is wider than its place. Whether it did.
  #fit() {
    this.#width = this.scroller.clientWidth;
    this.#taken = this.scroller.scrollWidth;
    if (!this.#isCut) return false;
    this.head.narrow();
    this.columnsChanged();
    return true;
  }

  #draw({ state, staleAfter, now, offset, left }) {
    const lines = this.#lines.length;
    const height = HEIGHT[this.prefs.get("density")] ?? HEIGHT.normal;
    let [from, to] = [0, lines];
    if (this.view.flow) to = Math.min(lines, this.#limit);
    else {
      // Even a table that is not laid out yet has a screenful.
      const seen = Math.ceil((this.#height || 600) / height);
      from = Math.max(0, Math.floor(this.#top / height) - OVERSCAN);
      to = Math.min(lines, from + seen + 2 * OVERSCAN);
      if (from > to) from = Math.max(0, to - seen);
    }
    this.#show(this.#pins.map((key) => ({ key })), this.#lines.slice(from, to));
    this.#hold(height);
    this.#space(this.#upper, from * height, true);
    this.#space(this.#lower, this.view.flow ? 0 : (lines - to) * height, false);
    for (const [key, element] of this.#elements) {
      const row = this.#rows.get(key);
      if (element.cells !== null && row) paintRow(element, key, row, this.shown, this.context, { state, staleAfter, now, offset });
    }
    this.table.setAttribute("aria-rowcount", String(this.#pins.length + lines + 1));
    this.#tell(state, lines - to + left, left);
  }

  get #empty() {
    return this.#lines.length + this.#pins.length === 0;
  }

  #tell(state, hidden, left) {
    const none = this.#empty;
    this.scroller.hidden = none;
    this.empty.hidden = !none;
    if (none) {
      const searched = this.#search && this.#rows.size > 0;
      const words = { "not visible": T.notVisible, unknown: T.unknown, loading: T.loading };
      set(this.empty, searched ? T.noMatch : words[state.state] ?? T.empty[this.id] ?? T.emptyOther);
    }
    const shown = this.view.flow && hidden > 0;
    this.more.hidden = !shown && left === 0;
    if (left > 0) set(this.more, T.tooMany(count(left)));
    else if (shown && this.more.dataset.count !== String(hidden)) {
      this.more.dataset.count = String(hidden);
      const more = make("button", "", T.showMore);
      more.type = "button";
      more.addEventListener("click", () => {
        this.#limit += FLOW_STEP;
        this.changed();
      });
      this.more.replaceChildren(T.more(count(hidden)), " ", more);
    }
  }

  #arrange(now) {
    this.#stale = false;
    this.#sortedAt = now;
    const { sort, group, pinned } = this.prefs.table(this.id);
    const { view, context } = this;
    const found = this.#order.arrange({ rows: this.#rows, view, context, search: this.#search, sort, group, pinned }, this.#changed);
    this.#changed = new Set();
    [this.#pins, this.#lines] = [found.pins, found.lines];
  }

  #show(pins, lines) {
    const wanted = new Set([...pins, ...lines].map(({ key }) => key));
    for (const [key, { tr }] of this.#elements) {
      if (!wanted.has(key)) {
        tr.remove();
        this.#elements.delete(key);
      }
    }
    this.#place(pins, this.top);
    this.#place(lines, this.body);
  }

  #place(lines, body) {
    let before = body.firstElementChild;
    if (before === this.#upper) before = before.nextElementSibling;
    for (const line of lines) {
      let element = this.#elements.get(line.key);
      if (element === undefined) {
        element = line.group === undefined ? buildRow(line.key, this.shown, this.context) : buildGroup(this.shown);
        this.#elements.set(line.key, element);
      }
      if (line.group !== undefined) set(element.tr.firstChild, line.group);
      // Only rows that are out of place move: the others keep focus and selection.
      if (element.tr === before) before = before.nextElementSibling;
      else body.insertBefore(element.tr, before);
    }
  }

  // Pinned rows stand still below the head while the others scroll.
  #hold(height) {
    if (!this.#pins.length) {
      this.top.remove();
      return;
    }
    if (!this.top.isConnected) this.body.before(this.top);
    const below = this.head.height;
    this.#pins.forEach((key, index) => {
      this.#elements.get(key).tr.style.setProperty("--top", `${below + index * height}px`);
    });
  }

  #space(spacer, height, first) {
    if (height <= 0) {
      spacer.remove();
      return;
    }
    if (!spacer.firstChild) spacer.append(make("td"));
    spacer.firstChild.style.height = `${height}px`;
    spacer.firstChild.colSpan = this.shown.length;
    if (first && this.body.firstElementChild !== spacer) this.body.prepend(spacer);
    if (!first && this.body.lastElementChild !== spacer) this.body.append(spacer);
  }

  // --- rows that stay on top

  get pinnable() {
    return !this.view.flow;
  }

  isPinned(key) {
    return this.prefs.table(this.id).pinned.includes(key);
  }

  togglePin(key) {
    const { pinned } = this.prefs.table(this.id);
    const others = pinned.filter((each) => each !== key);
    const next = others.length < pinned.length ? others : [...others, key].slice(-MOST_PINS);
    this.prefs.setTable(this.id, { pinned: next });
    this.resort();
  }

  // --- by keyboard

  get selected() {
    return this.#selected;
  }

  #key(event) {
    // The focus follows a frame later: keys that come faster count from where it goes.
    const focused = this.#selected ?? event.target.closest("tr[data-key]")?.dataset.key ?? null;
    if (event.target.closest("button") && event.key === "Enter") return;
    const keys = [...this.#pins, ...this.#lines.filter(({ group }) => group === undefined).map(({ key }) => key)];
    const index = keys.indexOf(focused);
    const steps = { ArrowDown: index + 1, ArrowUp: Math.max(0, index - 1), Home: 0, End: keys.length - 1 };
    if (event.key in steps) {
      event.preventDefault();
      this.select(keys[Math.min(keys.length - 1, steps[event.key])]);
    } else if (event.key === "Enter" && focused !== null) {
      event.preventDefault();
      this.open(focused);
    } else if (event.key === "p" && focused !== null && this.pinnable) {
      event.preventDefault();
      this.togglePin(focused);
      this.select(focused);
    } else if (event.key === "Escape" && focused !== null) {
      this.#selected = null;
      this.scroller.focus();
    }
  }

  // Bring a row into sight and focus it.
  select(key) {
    if (key === undefined) return;
    this.#selected = key;
    const index = this.#lines.findIndex((line) => line.key === key);
    if (this.#pins.includes(key)) {
      // it is in sight
    } else if (!this.view.flow) {
      const height = HEIGHT[this.prefs.get("density")] ?? HEIGHT.normal;
      const { scrollTop, clientHeight } = this.scroller;
      const [top, bottom] = [index * height, (index + 2 + this.#pins.length) * height];
      if (top < scrollTop) this.scroller.scrollTop = top;
      else if (bottom > scrollTop + clientHeight) this.scroller.scrollTop = bottom - clientHeight;
    } else this.#limit = Math.max(this.#limit, index + 1);
    this.changed(() => this.#elements.get(key)?.tr.focus({ preventScroll: !this.view.flow }));
  }
}
