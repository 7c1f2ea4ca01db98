// Which rows a table shows, and in which order. Of ten thousand rows of which some change, only these
// are looked at and moved: what a change costs does not grow with a sort of them all.
//
// It holds: the entries are those of the rows that match, each with the place that its row has now, in
// order; and the order is total, since each view's place ends with the key. So an entry is found by
// bisection, and taking out what has moved and putting it in again gives what a sort would; the totals
// of a group are those of its entries' rows (tests/unit/page/tables.test.mjs).

import { compareDecimals } from "./format.js";
import { headline } from "./group.js";
import { Totals } from "./tally.js";

const texts = new WeakMap(); // row -> what is searched

export class Order {
  #asked = null; // what the entries were made for
  #entries = []; // [{key, row, place, band, part, value, number}] in order
  #of = new Map(); // key -> its entry
  #bands = new Map(); // group -> Totals of its rows
  #result = { pins: [], lines: [] };

  // Returns {pins: [key], lines: [{key, ...} or {key, group}]}; neither list ever changes. `asked` is
  // {rows, view, context, search, sort, group, pinned}; `changed` are the keys that may have changed
  // since the last call, null for all. Pinned rows stand before all others, whatever is searched or
  // grouped, in the order in which they were pinned.
  arrange(asked, changed) {
    const compare = orderOf(asked);
    const whole = changed === null || !this.#sameAs(asked);
    this.#asked = asked;
    const pins = asked.view.flow ? [] : asked.pinned.filter((key) => asked.rows.has(key));
    if (whole) this.#anew(asked, compare, new Set(pins));
    else if (!this.#follow(asked, compare, new Set(pins), changed)) return this.#result;
    return (this.#result = { pins, lines: this.#lines() });
  }

  // A pin takes a row out of the others, so that more than its own entry changes.
  #sameAs({ rows, search, sort, group, pinned }) {
    const before = this.#asked;
    return before !== null && before.rows === rows && before.search === search && before.group === group
      && String(before.sort) === String(sort) && String(before.pinned) === String(pinned);
  }

  #anew(asked, compare, apart) {
    this.#of.clear();
    this.#bands.clear();
    for (const key of asked.rows.keys()) {
      const entry = entryOf(key, asked, apart);
      if (entry === null) continue;
      this.#of.set(key, entry);
      this.#count(entry, asked, 1);
    }
    this.#entries = [...this.#of.values()].sort(compare);
  }

  // Whether something has to be drawn otherwise: a row came, went or moved, or a group's total changed.
  #follow(asked, compare, apart, changed) {
    const gone = [];
    const placed = [];
    let other = false;
    for (const key of changed) {
      other ||= asked.pinned.includes(key) && asked.rows.has(key) !== this.#result.pins.includes(key);
      const before = this.#of.get(key);
      const now = entryOf(key, asked, apart);
      if (before === undefined && now === null) continue;
      if (before !== undefined) this.#count(before, asked, -1);
      if (now !== null) this.#count(now, asked, 1);
      other ||= this.#bands.size > 0;
      if (before !== undefined && now !== null && compare(before, now) === 0) {
        before.row = now.row;
        continue;
      }
      if (before !== undefined) {
        gone.push(before);
        this.#of.delete(key);
      }
      if (now !== null) {
        placed.push(now);
        this.#of.set(key, now);
      }
    }
    if (gone.length) this.#entries = without(this.#entries, gone, compare);
    if (placed.length) this.#entries = merged(this.#entries, placed.sort(compare), compare);
    return gone.length + placed.length > 0 || other;
  }

  #count({ band, row }, { view }, times) {
    if (band === null) return;
    let totals = this.#bands.get(band);
    if (totals === undefined) this.#bands.set(band, (totals = new Totals(view.total ?? null)));
    if (times > 0) totals.add(row);
    else totals.remove(row);
    if (totals.count === 0) this.#bands.delete(band);
  }

  #lines() {
    if (!this.#bands.size) return this.#entries;
    const lines = [];
    let band = null;
    for (const entry of this.#entries) {
      if (entry.band !== band) {
        ({ band } = entry);
        lines.push({ key: `group ${band}`, group: headline(band, this.#bands.get(band)) });
      }
      lines.push(entry);
    }
    return lines;
  }
}

// What has no value comes last in both directions. Values of different parts, such as money in
// different currencies, are never ranked with each other: one part stands after the other.
function orderOf({ view, sort, group }) {
  const column = columnOf(view, sort);
  const ranked = column ? rankBy(column, sort[1]) : null;
  const placed = ranked === null ? placeOrder : (a, b) => ranked(a, b) || placeOrder(a, b);
  return view.groups?.[group] ? (a, b) => plainOrder(a.band, b.band) || placed(a, b) : placed;
}

function rankBy({ compare = plainOrder, part }, direction) {
  const order = compare === compareDecimals ? numberOrder : (a, b) => compare(a.value, b.value);
  const inPart = part ? (a, b) => plainOrder(a.part, b.part) || direction * order(a, b) : (a, b) => direction * order(a, b);
  return (a, b) => isNone(a) - isNone(b) || inPart(a, b);
}

function isNone({ value }) {
  return value === null || value === undefined || value === "";
}

// As compareDecimals, whose floats are made once.
function numberOrder(a, b) {
  if (a.number !== b.number && a.number === a.number && b.number === b.number) return a.number < b.number ? -1 : 1;
  return compareDecimals(a.value, b.value);
}

function columnOf(view, sort) {
  return sort && view.columns.find(({ id }) => id === sort[0]);
}

// Null: it stands nowhere, or among the pinned ones.
function entryOf(key, { rows, view, context, search, sort, group }, apart) {
  const row = rows.get(key)?.data;
  if (row === undefined || apart.has(key)) return null;
  if (search && !matches(key, row, search.toLowerCase(), view, context)) return null;
  const by = view.groups?.[group];
  const column = columnOf(view, sort);
  const value = column?.value(row, key, context);
  return {
    key, row, place: view.sort(row, key, context), band: by ? String(by(row, context)) : null, part: column?.part?.(row) ?? "",
    value, number: Number(value ?? NaN),
  };
}

// Where an entry stands in the order, or would stand: the first that is not before it.
function placeOf(entries, entry, compare, from = 0) {
  let to = entries.length;
  while (from < to) {
    const middle = (from + to) >> 1;
    if (compare(entries[middle], entry) < 0) from = middle + 1;
    else to = middle;
  }
  return from;
}

function without(entries, gone, compare) {
  const found = [];
  let from = 0;
  for (const place of gone.map((entry) => placeOf(entries, entry, compare)).sort((a, b) => a - b)) {
    while (from < place) found.push(entries[from++]);
    from++;
  }
  while (from < entries.length) found.push(entries[from++]);
  return found;
}

// `more` are in order, too.
function merged(entries, more, compare) {
  const found = [];
  let from = 0;
  for (const entry of more) {
    const place = placeOf(entries, entry, compare, from);
    while (from < place) found.push(entries[from++]);
    found.push(entry);
  }
  while (from < entries.length) found.push(entries[from++]);
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

// A place is a text, or a list of texts and numbers.
function placeOrder({ place: a }, { place: b }) {
  if (typeof a === "string") return plainOrder(a, b);
  for (let i = 0; i < a.length; i++) {
    if (a[i] < b[i]) return -1;
    if (a[i] > b[i]) return 1;
  }
  return 0;
}
