// What each trader holds, joined from the rows of the positions: how many, and what they add up to.
// It follows each change of a row, so that it never says another thing than the positions' panel.

import { States, rowIsFresh } from "../client/telecast.js";
import { VIEWS } from "./channels.js";
import { button, set } from "./dom.js";
import { toneOf } from "./format.js";
import { totalsInWords } from "./group.js";
import { Totals } from "./tally.js";
import { T } from "./texts.js";

const AGE_MS = 1000; // so often it is looked whether what a trader holds has become old
const BUDGET_MS = 6; // of one frame, for rows that are added up for the first time
const ABOUT = VIEWS.positions.total;

export class Holdings {
  #rows = new Map(); // position -> its row as it was added
  #left = new Set(); // positions that are still to be added: until then nothing is known
  #of = new Map(); // trader -> {totals, keys, fresh}
  #all = new Totals(ABOUT);
  #known = false;
  #state = null;
  #agedAt = 0;

  // `show(trader)` brings its positions into sight.
  constructor({ show, clock = () => performance.now() }) {
    Object.assign(this, { show, clock });
  }

  // Whether `refresh` has to be called again for all to be added up.
  get unfinished() {
    return this.#left.size > 0;
  }

  // Takes over what changed of the positions: `keys`, null for all of them, undefined for none.
  // Returns the traders whose cells may have to change; null: all of them. Positions that this
  // page does not keep are in no total: then none is said.
  refresh({ rows, keys, whole, left, state, staleAfter, now, offset }) {
    const touched = new Set();
    if (keys === null) this.#begin(rows);
    else for (const key of keys ?? []) this.#change(key, rows.get(key), touched);
    this.#goOn(rows);
    const known = whole && left === 0 && !this.unfinished && state !== States.NOT_VISIBLE;
    const all = keys === null || known !== this.#known || state !== this.#state;
    this.#known = known;
    this.#state = state;
    if (!all && now - this.#agedAt < AGE_MS) {
      // A row that changed is new: only what was old can have become fresh.
      for (const trader of touched) if (!this.#of.get(trader)?.fresh) this.#judge(trader, staleAfter, now, offset);
      return touched;
    }
    this.#agedAt = now;
    for (const trader of this.#of.keys()) if (this.#judge(trader, staleAfter, now, offset)) touched.add(trader);
    return all ? null : touched;
  }

  #begin(rows) {
    this.#rows = new Map();
    this.#of = new Map();
    this.#all = new Totals(ABOUT);
    this.#left = new Set(rows.keys());
  }

  #goOn(rows) {
    const until = this.clock() + BUDGET_MS;
    let added = 0;
    for (const key of this.#left) {
      this.#left.delete(key);
      this.#add(key, rows.get(key));
      if (++added % 100 === 0 && this.clock() > until) return;
    }
  }

  #change(key, row, touched) {
    if (this.#left.has(key)) {
      if (row === undefined) this.#left.delete(key);
      return; // it is added as it is then
    }
    const before = this.#rows.get(key);
    if (before !== undefined) {
      const held = this.#of.get(before.data.traderId);
      held.totals.remove(before.data);
      held.keys.delete(key);
      if (held.keys.size === 0) this.#of.delete(before.data.traderId);
      this.#all.remove(before.data);
      this.#rows.delete(key);
      touched.add(before.data.traderId);
    }
    if (row === undefined) return;
    this.#add(key, row);
    touched.add(row.data.traderId);
  }

  #add(key, row) {
    const { traderId } = row.data;
    let held = this.#of.get(traderId);
    if (held === undefined) this.#of.set(traderId, (held = { totals: new Totals(ABOUT), keys: new Set(), fresh: this.#state === States.LIVE }));
    held.totals.add(row.data);
    held.keys.add(key);
    this.#all.add(row.data);
    this.#rows.set(key, row);
  }

  // Whether it has become old, or fresh.
  #judge(trader, staleAfter, now, offset) {
    const held = this.#of.get(trader);
    if (held === undefined) return false;
    const before = held.fresh;
    held.fresh = this.#state === States.LIVE;
    if (held.fresh && staleAfter !== null) {
      for (const key of held.keys) {
        if (rowIsFresh(this.#state, this.#rows.get(key).at, staleAfter, now, offset)) continue;
        held.fresh = false;
        break;
      }
    }
    return held.fresh !== before;
  }

  countOf(trader) {
    return this.#known ? this.#of.get(trader)?.keys.size ?? 0 : null;
  }

  // Of all traders: {known, count, totals: [[currency, total], ...]}.
  get all() {
    return { known: this.#known, count: this.#all.count, totals: this.#all.entries() };
  }

  // --- the cell of the traders' table

  button(trader) {
    return button("", () => this.show(trader), "holds");
  }

  fill(element, name, trader) {
    const held = this.#known ? this.#of.get(trader) : undefined;
    const totals = held?.totals.entries() ?? [];
    // Several currencies have no room in a cell: how many there are, and the rest on the button's name.
    const full = totalsInWords(totals);
    const short = totals.length > 1 ? T.currencies(totals.length) : full;
    const words = held ? `${held.keys.size} · ${short}` : this.#known ? T.none : "–";
    set(element, words);
    element.title = full;
    element.disabled = held === undefined;
    element.setAttribute("aria-label", held ? T.positionsOf(name, short === full ? words : `${words}, ${full}`) : words);
    const alone = totals.length === 1 && held.fresh;
    element.dataset.tone = alone ? toneOf(totals[0][1]) : "";
    if (held && !held.fresh) element.dataset.stale = "";
    else delete element.dataset.stale;
  }
}
