// What each trader holds, joined from the rows of the positions: how many, and what they add up to.

import { States, rowIsFresh } from "../client/telecast.js";
import { VIEWS } from "./channels.js";
import { button, set } from "./dom.js";
import { toneOf } from "./format.js";
import { totals, totalsInWords } from "./group.js";
import { T } from "./texts.js";

const EVERY_MS = 1000;

export class Holdings {
  #of = new Map(); // trader -> {count, totals, fresh}
  #known = false;
  #state = null;
  #addedAt = 0;

  // `show(trader)` brings its positions into sight.
  constructor({ show }) {
    this.show = show;
  }

  // Whether a cell may have to change. Positions that this page does not keep are in no total: then
  // none is said.
  refresh({ rows, whole, left, state, staleAfter, now, offset }) {
    const known = whole && left === 0 && state !== States.NOT_VISIBLE;
    if (known === this.#known && state === this.#state && now - this.#addedAt < EVERY_MS) return false;
    this.#known = known;
    this.#state = state;
    this.#addedAt = now;
    const held = new Map();
    for (const { at, data } of known ? rows.values() : []) {
      if (!held.has(data.traderId)) held.set(data.traderId, { rows: [], fresh: true });
      const found = held.get(data.traderId);
      found.rows.push(data);
      found.fresh &&= rowIsFresh(state, at, staleAfter, now, offset);
    }
    this.#of = new Map([...held].map(([trader, { rows: own, fresh }]) => [trader, { count: own.length, totals: totals(own, VIEWS.positions.total), fresh }]));
    return true;
  }

  countOf(trader) {
    return this.#known ? this.#of.get(trader)?.count ?? 0 : null;
  }

  // --- the cell of the traders' table

  button(trader) {
    return button("", () => this.show(trader), "holds");
  }

  fill(element, name, trader) {
    const held = this.#of.get(trader);
    // Several currencies have no room in a cell: how many there are, and the rest on the button's name.
    const full = held ? totalsInWords(held.totals) : "";
    const short = held?.totals.length > 1 ? T.currencies(held.totals.length) : full;
    const words = held ? `${held.count} · ${short}` : this.#known ? T.none : "–";
    set(element, words);
    element.title = full;
    element.disabled = held === undefined;
    element.setAttribute("aria-label", held ? T.positionsOf(name, short === full ? words : `${words}, ${full}`) : words);
    const alone = held?.totals.length === 1 && held.fresh;
    element.dataset.tone = alone ? toneOf(held.totals[0][1]) : "";
    if (held && !held.fresh) element.dataset.stale = "";
    else delete element.dataset.stale;
  }
}
