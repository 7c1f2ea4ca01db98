// Which rows a table shows, and in which order: pure, so that it is asked at most as often as it has
// to be.

import { grouped, headline } from "./group.js";

const texts = new WeakMap(); // row -> what is searched

// Returns {pins: [key], lines: [{key} or {key, group}]}. `rows` are key -> {data}. Pinned rows stand
// before all others, whatever is searched or grouped, in the order in which they were pinned.
export function arrange({ rows, view, context, search, sort, group, pinned }) {
  const wanted = search.toLowerCase();
  const pins = view.flow ? [] : pinned.filter((key) => rows.has(key));
  const apart = new Set(pins);
  const column = sort && view.columns.find(({ id }) => id === sort[0]);
  const found = [];
  for (const [key, { data }] of rows) {
    if (apart.has(key) || (wanted && !matches(key, data, wanted, view, context))) continue;
    found.push({ key, row: data, place: view.sort(data, key), value: column?.value(data, key, context) });
  }
  const order = column?.compare ?? plainOrder;
  found.sort((a, b) => (column ? sort[1] * order(a.value, b.value) : 0) || listOrder(a.place, b.place));
  const by = view.groups?.[group];
  if (!by) return { pins, lines: found.map(({ key }) => ({ key })) };
  const lines = grouped(found.map(({ key, row }) => [key, row]), by, view.total).flatMap((each) => [
    { key: `group ${each.name}`, group: headline(each) }, ...each.members.map(([key]) => ({ key })),
  ]);
  return { pins, lines };
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
