// A table that follows a map of rows: a row element per key, touched only where a cell changed.
// All that comes from outside becomes text, never markup.

export class Table {
  #elements = new Map(); // key -> {tr, cells, sort}
  #shown = [];
  #unsorted = false;

  // columns: {title, cell(row, key), numeric, wide, create, update}; `cell` gives
  // {text, sub, tone, chip, title}, `create`/`update` handle the element of a column of its own.
  // `sort(row, key)` gives a list that is compared item by item.
  constructor(section, { title, columns, sort, empty, limit = 250 }) {
    Object.assign(this, { columns, sort, limit });
    const id = section.id;
    const head = make("div", "panel-head");
    const heading = head.appendChild(make("h2", "", title));
    heading.id = `${id}-title`;
    this.count = head.appendChild(make("span", "quiet count"));
    const scroller = make("div", "scroller");
    scroller.tabIndex = 0;
    scroller.setAttribute("role", "region");
    scroller.setAttribute("aria-labelledby", heading.id);
    const table = scroller.appendChild(make("table"));
    table.setAttribute("aria-labelledby", heading.id);
    const titles = table.appendChild(make("thead")).appendChild(make("tr"));
    for (const column of columns) {
      const th = titles.appendChild(make("th", classOf(column), column.title));
      th.scope = "col";
    }
    this.body = table.appendChild(make("tbody"));
    this.empty = make("p", "empty quiet", empty);
    this.more = make("p", "more quiet");
    section.append(head, scroller, this.empty, this.more);
    this.scroller = scroller;
  }

  // Follow the rows; `keys` are those that changed, null means any.
  render(rows, keys, left = 0) {
    for (const key of keys ?? new Set([...this.#elements.keys(), ...rows.keys()])) {
      const row = rows.get(key);
      if (row === undefined) this.#drop(key);
      else this.#follow(key, row.data);
    }
    if (this.#unsorted) this.#arrange(rows);
    const hidden = rows.size - this.#shown.length + left;
    set(this.count, rows.size ? String(rows.size + left) : "");
    set(this.more, hidden > 0 ? `and ${hidden.toLocaleString("en")} more that are not shown` : "");
    this.more.hidden = hidden <= 0;
    this.empty.hidden = rows.size > 0;
    this.scroller.hidden = rows.size === 0;
  }

  #follow(key, data) {
    let element = this.#elements.get(key);
    const sort = this.sort(data, key);
    if (element === undefined) {
      element = { tr: null, cells: null, sort };
      this.#elements.set(key, element);
      this.#unsorted = true;
    } else if (compare(element.sort, sort) !== 0) {
      element.sort = sort;
      this.#unsorted = true;
    }
    if (element.tr !== null) this.#fill(element, data, key);
  }

  #drop(key) {
    const element = this.#elements.get(key);
    if (element === undefined) return;
    element.tr?.remove();
    this.#elements.delete(key);
    this.#unsorted = true;
  }

  #arrange(rows) {
    this.#unsorted = false;
    const keys = [...this.#elements.keys()].sort((a, b) =>
      compare(this.#elements.get(a).sort, this.#elements.get(b).sort),
    );
    const shown = keys.slice(0, this.limit);
    for (const key of keys.slice(this.limit)) {
      const element = this.#elements.get(key);
      element.tr?.remove();
      element.tr = element.cells = null;
    }
    let before = this.body.firstElementChild;
    for (const key of shown) {
      const element = this.#elements.get(key);
      if (element.tr === null) {
        this.#build(element);
        this.#fill(element, rows.get(key).data, key);
      }
      // Only rows that are out of place move: the others keep focus and selection.
      if (element.tr === before) before = before.nextElementSibling;
      else this.body.insertBefore(element.tr, before);
    }
    this.#shown = shown;
  }

  #build(element) {
    element.tr = make("tr");
    element.cells = this.columns.map((column) => {
      const td = element.tr.appendChild(make("td", classOf(column)));
      if (column.create) return { td, own: td.appendChild(column.create()) };
      const main = td.appendChild(make("span", "main"));
      return { td, main, sub: null };
    });
  }

  #fill(element, data, key) {
    this.columns.forEach((column, index) => {
      const cell = element.cells[index];
      if (column.update) {
        column.update(cell.own, data, key);
        return;
      }
      const { text, sub = "", tone = "", chip = false, title = "" } = column.cell(data, key);
      set(cell.main, text);
      if (cell.tone !== tone) cell.td.dataset.tone = cell.tone = tone;
      if (cell.chip !== chip) cell.main.className = (cell.chip = chip) ? "main chip" : "main";
      if (cell.title !== title) cell.td.title = cell.title = title;
      if (sub && cell.sub === null) cell.sub = cell.td.appendChild(make("span", "sub"));
      if (cell.sub !== null) set(cell.sub, sub);
    });
  }
}

export function make(tag, className = "", text = "") {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text) element.textContent = text;
  return element;
}

// Writes only what differs: the rest of the page stays as it was laid out.
export function set(element, text) {
  if (element.firstChild?.nodeType === Node.TEXT_NODE && element.childNodes.length === 1) {
    if (element.firstChild.data !== text) element.firstChild.data = text;
  } else if (element.textContent !== text) {
    element.textContent = text;
  }
}

function classOf({ numeric, wide, name = "" }) {
  return [numeric && "number", wide && "wide", name].filter(Boolean).join(" ");
}

function compare(a, b) {
  for (let i = 0; i < a.length; i++) {
    if (a[i] < b[i]) return -1;
    if (a[i] > b[i]) return 1;
  }
  return 0;
}
