// The history of one row, read backwards: the newest events of its channel first, then ever larger
// pieces before them, until the journal has no more.

const FIRST = 20_000; // events of the channel in the first piece
const GROWS = 4; // each piece is so many times the one before
const PIECES = 6; // at once: then somebody has to ask again
const PAGE = 5000;
const MOST_PAGES = 40; // of one piece
export const MOST_EVENTS = 2000; // of the row that are kept: the newest

export class RowHistory {
  events = []; // of this row, oldest first
  whole = false; // whether nothing is kept before them
  trimmed = false; // whether there was something before them once
  since = null; // when the oldest event was committed that was looked at
  #to; // the seq up to which comes next
  #size = FIRST;

  // `ask(page)` resolves to a page of the channel's events; `head` is the position to begin from.
  constructor({ ask, key, head }) {
    Object.assign(this, { ask, key });
    const [epoch, seq] = head.split(":");
    this.epoch = epoch;
    this.#to = Number(seq);
  }

  // Looks further back until something of this row is found.
  async earlier() {
    const before = this.events.length;
    for (let piece = 0; piece < PIECES && !this.whole && this.events.length === before; piece++) await this.#piece();
  }

  async #piece() {
    const from = Math.max(0, this.#to - this.#size);
    const found = [];
    let after = `${this.epoch}:${from}`;
    let first = null;
    for (let page = 0; page < MOST_PAGES; page++) {
      const { events, position, more, gap } = await this.ask({ after, to: `${this.epoch}:${this.#to}`, limit: PAGE });
      first ??= events[0]?.timestamp ?? null;
      if (gap !== null && page === 0) this.trimmed = true;
      found.push(...events.filter(({ key }) => key === this.key));
      if (!more) break;
      after = position;
    }
    this.since = first ?? this.since;
    this.events = [...found, ...this.events].slice(-MOST_EVENTS);
    this.whole = from === 0 || this.trimmed || this.events.length === MOST_EVENTS;
    this.#to = from;
    this.#size *= GROWS;
  }
}
