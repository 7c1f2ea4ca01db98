// Exact totals that are kept while rows come and go: adding one row costs the same among ten and
// among ten thousand. No float is on the way, and different currencies are never added.

import { DECIMAL } from "./format.js";
import { T } from "./texts.js";

// A sum of decimal texts. It has as many places as the longest text in it.
export class ExactSum {
  #units = 0n;
  #scale = 0; // of #units: it only grows
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
      this.#units *= 10n ** BigInt(places - this.#scale);
      this.#scale = places;
    }
    const units = BigInt(whole + rest.slice(1).padEnd(this.#scale, "0"));
    this.#units += (minus ? -1n : 1n) * BigInt(times) * units;
    this.#places[places] = (this.#places[places] ?? 0) + times;
  }

  toString() {
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

  constructor(about) {
    this.about = about;
  }

  add(row) {
    const name = currencyOf(row, this.about);
    let sum = this.#sums.get(name);
    if (sum === undefined) this.#sums.set(name, (sum = new ExactSum()));
    sum.add(row[this.about.field]);
    this.count++;
  }

  remove(row) {
    const name = currencyOf(row, this.about);
    const sum = this.#sums.get(name);
    sum.remove(row[this.about.field]);
    if (sum.count === 0) this.#sums.delete(name);
    this.count--;
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
