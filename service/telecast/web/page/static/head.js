// The head of a table: which columns it shows, and by which it is sorted. Columns that there is no room
// for are left out, so that no number is cut.

import { classOf } from "./cells.js";
import { make } from "./dom.js";

export class Head {
  shown = [];
  height = 0; // px, as it was laid out last
  #dropped = new Set(); // columns that there is no room for

  // `sorted()` is called once somebody has chosen another order.
  constructor({ id, view, prefs, sorted }) {
    Object.assign(this, { id, view, prefs, sorted });
    this.element = make("thead");
    this.row = this.element.appendChild(make("tr"));
    new ResizeObserver(([{ contentRect }]) => (this.height = contentRect.height)).observe(this.element);
  }

  // The columns that somebody chose, else the usual ones.
  get columns() {
    const { hidden } = this.prefs.table(this.id);
    return this.view.columns.filter(({ id, extra }) => (hidden === null ? !extra : !hidden.includes(id)));
  }

  get #chosen() {
    return this.prefs.table(this.id).hidden !== null;
  }

  fill() {
    if (this.#chosen) this.#dropped.clear();
    this.shown = this.columns.filter(({ id }) => !this.#dropped.has(id));
    this.row.replaceChildren(
      ...this.shown.map((column) => {
        const th = make("th", classOf(column));
        th.scope = "col";
        if (column.hint) th.title = column.hint;
        if (column.value) {
          const sort = th.appendChild(make("button", "sort", column.title));
          sort.type = "button";
          sort.addEventListener("click", () => this.#sortBy(column));
        } else th.textContent = column.title;
        return th;
      }),
    );
    this.#mark();
  }

  // What can be left out next: the last of the `wide` columns, then of the `mid` ones. Columns that
  // somebody chose stay, and the table scrolls.
  get spare() {
    if (this.#chosen) return undefined;
    return this.shown.findLast(({ wide }) => wide) ?? this.shown.findLast(({ mid }) => mid);
  }

  narrow() {
    this.#dropped.add(this.spare.id);
  }

  // There is another place: all columns may have room. Whether one was left out.
  widen() {
    const some = this.#dropped.size > 0;
    this.#dropped.clear();
    return some;
  }

  // A number is wanted largest first, a name from A; then the other way round; then as it was.
  #sortBy({ id, numeric }) {
    const { sort } = this.prefs.table(this.id);
    const [column, direction] = sort ?? [null, 0];
    const first = numeric ? -1 : 1;
    const next = column !== id ? [id, first] : direction === first ? [id, -first] : null;
    this.prefs.setTable(this.id, { sort: next });
    this.#mark();
    this.sorted();
  }

  #mark() {
    const { sort } = this.prefs.table(this.id);
    this.shown.forEach((column, index) => {
      const th = this.row.children[index];
      if (sort?.[0] === column.id) th.setAttribute("aria-sort", sort[1] > 0 ? "ascending" : "descending");
      else th.removeAttribute("aria-sort");
    });
  }
}
