// Exact totals that are kept while rows come and go: adding one row costs the same among ten and
// among ten thousand. No float is on the way, and different currencies are never added.

import { DECIMAL } from "./format.js";
import { T } from "./texts.js";

const ROOM = 2 ** 52; // a whole number below this is exact in a float, and so is the sum of two

// A sum of decimal texts. It has as many places as the longest text in it. What is short is added as
// whole numbers in a float, which is exact, and moved into the BigInt before it could be no more.
export class ExactSum {
  #units = 0n;
  #few = 0; // to be added to #units
  #scale = 0; // of both: it only grows
  #places = []; // how many texts have so many places
  count = 0;

  add(text) {
    this.#put(text, 1);
  }

  // Only what was added before may be taken away.
  remove(text) {
    this.#put(text, -1);
  }

  #put(text, times) {
    this.count += times;
    const match = DECIMAL.exec(text ?? "");
    if (match === null) return;
    const [, minus, whole, rest = "."] = match;
    const places = rest.length - 1;
    if (places > this.#scale) {
      this.#settle();
      this.#units *= 10n ** BigInt(places - this.#scale);
      this.#scale = places;
    }
    const digits = whole + rest.slice(1).padEnd(this.#scale, "0");
    const sign = minus ? -times : times;
    if (digits.length > 15) this.#units += BigInt(sign) * BigInt(digits);
    else {
      this.#few += sign * Number(digits);
      if (Math.abs(this.#few) > ROOM) this.#settle();
    }
    this.#places[places] = (this.#places[places] ?? 0) + times;
  }

  #settle() {
    this.#units += BigInt(this.#few);
    this.#few = 0;
  }

  toString() {
    this.#settle();
    let scale = this.#places.length - 1;
    while (scale > 0 && !this.#places[scale]) scale--;
    scale = Math.max(0, scale);
    const units = this.#units / 10n ** BigInt(this.#scale - scale);
    const digits = (units < 0n ? -units : units).toString().padStart(scale + 1, "0");
    const cut = digits.length - scale;
    return (units < 0n ? "-" : "") + digits.slice(0, cut) + (scale ? `.${digits.slice(cut)}` : "");
  }
}

// Sums by currency. `about` is {field, currency(row)}: what is added up, and in what.
export class Totals {
  #sums = new Map();
  count = 0;

  // Null: rows are only counted.
  constructor(about) {
    this.about = about;
  }

  add(row) {
    this.count++;
    if (this.about === null) return;
    const name = currencyOf(row, this.about);
    let sum = this.#sums.get(name);
    if (sum === undefined) this.#sums.set(name, (sum = new ExactSum()));
    sum.add(row[this.about.field]);
  }

  remove(row) {
    this.count--;
    if (this.about === null) return;
    const name = currencyOf(row, this.about);
    const sum = this.#sums.get(name);
    sum.remove(row[this.about.field]);
    if (sum.count === 0) this.#sums.delete(name);
  }

  // Null: there is nothing in this currency.
  of(currency) {
    return this.#sums.has(currency) ? String(this.#sums.get(currency)) : null;
  }

  // [[currency, total], ...] in the order of their names.
  entries() {
    return [...this.#sums].map(([name, sum]) => [name, String(sum)]).sort(([a], [b]) => (a < b ? -1 : 1));
  }
}

// Where a symbol does not say its currency, the symbol stands for it: it is added to nothing else.
export function currencyOf(row, { currency }) {
  return currency(row) ?? row.symbol ?? T.unknownQuote;
}
