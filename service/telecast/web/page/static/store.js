// The rows of every channel, folded from the stream as the wire contract says (section 4).

export const MOST_ROWS = 10_000;
// Rows of a channel that are kept here; a page that would need more says that it shows fewer.

export class Store {
  constructor() {
    this.rows = new Map(); // channel -> key -> {seq, at, data}
    this.left = new Map(); // channel -> rows beyond MOST_ROWS that were not kept
    this.pending = new Map(); // channel -> the rows of a snapshot that is not complete yet
    this.dirty = new Map(); // channel -> Set of keys, or null: all of them
  }

  of(channel) {
    return this.rows.get(channel) ?? new Map();
  }

  apply(message) {
    switch (message.type) {
      case "event":
        this.#event(message);
        break;
      case "snapshot":
        // What is shown stays until the new rows are complete: a connection that is cut before
        // that resumes from the older position, and needs the older rows.
        for (const channel of message.channels) this.pending.set(channel, new Map());
        break;
      case "live":
        for (const [channel, rows] of this.pending) {
          this.rows.set(channel, rows);
          this.dirty.set(channel, null);
        }
        this.pending.clear();
        break;
      case "welcome":
        this.pending.clear();
        break;
      case "ack":
        // Rights may narrow while we look: what is not told any more is not shown any more.
        for (const channel of this.rows.keys()) {
          if (!message.channels.includes(channel)) this.#forget(channel);
        }
        break;
    }
  }

  #event({ channel, key, op, seq, data, timestamp }) {
    const filling = this.pending.get(channel);
    let rows = filling ?? this.rows.get(channel);
    if (rows === undefined) this.rows.set(channel, (rows = new Map()));
    if (op === "delete") rows.delete(key);
    else if (rows.has(key) || rows.size < MOST_ROWS) rows.set(key, { seq, at: timestamp, data });
    else this.left.set(channel, (this.left.get(channel) ?? 0) + 1);
    if (filling === undefined) this.#touch(channel, key);
  }

  #touch(channel, key) {
    const keys = this.dirty.get(channel);
    if (keys === undefined) this.dirty.set(channel, new Set([key]));
    else if (keys !== null) keys.add(key);
  }

  #forget(channel) {
    this.rows.delete(channel);
    this.pending.delete(channel);
    this.dirty.set(channel, null);
  }

  // What changed since the last call: channel -> Set of keys, or null for all.
  takeDirty() {
    const dirty = this.dirty;
    this.dirty = new Map();
    return dirty;
  }

  // For a tab that comes late: structured clones of these travel between tabs.
  dump() {
    return { rows: this.rows, pending: this.pending, left: this.left };
  }

  load({ rows, pending, left }) {
    for (const channel of [...this.rows.keys(), ...rows.keys()]) this.dirty.set(channel, null);
    this.rows = rows;
    this.pending = pending;
    this.left = left;
  }
}
