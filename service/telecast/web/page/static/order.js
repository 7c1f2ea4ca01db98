// Which rows a table shows, and in which order. Of ten thousand rows of which some change, only these
// are looked at and moved: what a change costs does not grow with a sort of them all.
//
// It holds: the entries are those of the rows that match, each with the place that its row has now, in
// order; and the order is total, since each view's place ends with the key. So taking out what has
// moved and merging it in again gives what a sort would (tests/unit/page/tables.test.mjs).

import { grouped, headline } from "./group.js";

const texts = new WeakMap(); // row -> what is searched

export class Order {
  #asked = null; // what the entries were made for
  #entries = []; // [{key, row, place, value}] in order
  #of = new Map(); // key -> its entry
  #result = { pins: [], lines: [] };

  // Returns {pins: [key], lines: [{key} or {key, group}]}. `asked` is {rows, view, context, search,
  // sort, group, pinned}; `changed` are the keys that may have changed since the last call, null for
  // all. Pinned rows stand before all others, whatever is searched or grouped, in the order in which
  // they were pinned.
  arrange(asked, changed) {
    const compare = orderOf(asked);
    const whole = changed === null || !this.#sameAs(asked);
    this.#asked = asked;
    const pins = asked.view.flow ? [] : asked.pinned.filter((key) => asked.rows.has(key));
    if (whole) this.#anew(asked, compare, new Set(pins));
    else if (!this.#follow(asked, compare, new Set(pins), changed) && !asked.view.groups?.[asked.group]) return this.#result;
    return (this.#result = { pins, lines: this.#lines(asked) });
  }

  // A pin takes a row out of the others, so that more than its own entry changes.
  #sameAs({ rows, search, sort, group, pinned }) {
    const before = this.#asked;
    return before !== null && before.rows === rows && before.search === search && before.group === group
      && String(before.sort) === String(sort) && String(before.pinned) === String(pinned);
  }

  #anew(asked, compare, apart) {
    this.#of.clear();
    for (const key of asked.rows.keys()) {
      const entry = entryOf(key, asked, apart);
      if (entry !== null) this.#of.set(key, entry);
    }
    this.#entries = [...this.#of.values()].sort(compare);
  }

  // Whether a row came, went or moved.
  #follow(asked, compare, apart, changed) {
    const gone = new Set();
    const placed = [];
    let pinsChanged = false;
    for (const key of changed) {
      pinsChanged ||= asked.pinned.includes(key) && asked.rows.has(key) !== this.#result.pins.includes(key);
      const before = this.#of.get(key);
      const now = entryOf(key, asked, apart);
      if (before === undefined && now === null) continue;
      if (before !== undefined && now !== null && compare(before, now) === 0) {
        before.row = now.row;
        continue;
      }
      if (before !== undefined) {
        gone.add(before);
        this.#of.delete(key);
      }
      if (now !== null) {
        placed.push(now);
        this.#of.set(key, now);
      }
    }
    if (gone.size || placed.length) this.#entries = merged(this.#entries.filter((entry) => !gone.has(entry)), placed.sort(compare), compare);
    return gone.size + placed.length > 0 || pinsChanged;
  }

  #lines({ view, group }) {
    const by = view.groups?.[group];
    if (!by) return this.#entries.map(({ key }) => ({ key }));
    return grouped(this.#entries.map(({ key, row }) => [key, row]), by, view.total).flatMap((each) => [
      { key: `group ${each.name}`, group: headline(each) }, ...each.members.map(([key]) => ({ key })),
    ]);
  }
}

function orderOf({ view, sort }) {
  const column = columnOf(view, sort);
  const order = column?.compare ?? plainOrder;
  return (a, b) => (column ? sort[1] * order(a.value, b.value) : 0) || listOrder(a.place, b.place);
}

function columnOf(view, sort) {
  return sort && view.columns.find(({ id }) => id === sort[0]);
}

// Null: it stands nowhere, or among the pinned ones.
function entryOf(key, { rows, view, context, search, sort }, apart) {
  const row = rows.get(key)?.data;
  if (row === undefined || apart.has(key)) return null;
  if (search && !matches(key, row, search.toLowerCase(), view, context)) return null;
  return { key, row, place: view.sort(row, key), value: columnOf(view, sort)?.value(row, key, context) };
}

function merged(a, b, compare) {
  if (!b.length) return a;
  const found = [];
  let [i, j] = [0, 0];
  while (i < a.length && j < b.length) found.push(compare(a[i], b[j]) <= 0 ? a[i++] : b[j++]);
  while (i < a.length) found.push(a[i++]);
  while (j < b.length) found.push(b[j++]);
  return found;
}

function matches(key, row, wanted, view, context) {
  return textOf(key, row).includes(wanted) || (view.also?.(row, context) ?? "").toLowerCase().includes(wanted);
}

function textOf(key, row) {
  let text = texts.get(row);
  if (text === undefined) texts.set(row, (text = `${key}\n${Object.values(row).join("\n")}`.toLowerCase()));
  return text;
}

function plainOrder(a, b) {
  return a < b ? -1 : a > b ? 1 : 0;
}

function listOrder(a, b) {
  for (let i = 0; i < a.length; i++) {
    if (a[i] < b[i]) return -1;
    if (a[i] > b[i]) return 1;
  }
  return 0;
}
