// The elements of one row. Of a row that changes only the cells that differ are touched.

import { rowIsFresh } from "../client/telecast.js";
import { make, set } from "./dom.js";
import { span } from "./format.js";
import { T } from "./texts.js";

export function classOf({ numeric, name = "" }) {
  return [numeric && "number", name].filter(Boolean).join(" ");
}

export function buildGroup(columns) {
  const tr = make("tr", "group");
  const th = tr.appendChild(make("th"));
  th.colSpan = columns.length;
  th.scope = "rowgroup";
  return { tr, cells: null };
}

export function buildRow(key, columns, context) {
  const tr = make("tr");
  tr.dataset.key = key;
  tr.tabIndex = -1;
  const cells = columns.map((column) => {
    const td = tr.appendChild(make("td", classOf(column)));
    if (column.create) return { td, own: td.appendChild(column.create(context, key)) };
    return { td, main: td.appendChild(make("span", "main")), sub: null, more: null };
  });
  return { tr, cells, dirty: true, fresh: null };
}

// Draws a row as it is now: {at, data}. `about` is {state, staleAfter, now, offset}.
export function paintRow(element, key, row, columns, context, { state, staleAfter, now, offset }) {
  const fresh = rowIsFresh(state.state, row.at, staleAfter, now, offset);
  const old = staleAfter !== null && now + offset - row.at > staleAfter;
  const age = old ? span(Math.round((now + offset - row.at) / 1000) * 1000) : "";
  if (element.dirty || element.row !== row.data || element.age !== age) fill(element, key, row.data, columns, context, age);
  if (element.fresh === fresh) return;
  element.fresh = fresh;
  if (fresh) delete element.tr.dataset.stale;
  else element.tr.dataset.stale = "";
}

function fill(element, key, row, columns, context, age) {
  Object.assign(element, { dirty: false, row, age });
  columns.forEach((column, index) => {
    const cell = element.cells[index];
    if (column.update) {
      column.update(cell.own, row, key, context);
      return;
    }
    const { text, sub = "", tone = "", chip = false, title = "", more = "" } = column.cell(row, key, context);
    const below = age && column.name?.startsWith("first") ? [sub, T.old(age)].filter(Boolean).join(" · ") : sub;
    set(cell.main, String(text));
    if (cell.tone !== tone) cell.td.dataset.tone = cell.tone = tone;
    if (cell.chip !== chip) cell.main.className = (cell.chip = chip) ? "main chip" : "main";
    if (cell.title !== title) cell.td.title = cell.title = title;
    if (below && cell.sub === null) cell.sub = cell.td.appendChild(make("span", "sub"));
    if (cell.sub !== null) set(cell.sub, below);
    if (more && cell.more === null) cell.more = cell.td.appendChild(make("span", "sub more-words"));
    if (cell.more !== null) set(cell.more, more);
  });
}
