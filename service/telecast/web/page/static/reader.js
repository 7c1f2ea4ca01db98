// The page's end of reading the past: one worker, asked as often as there is something to read.
// Where there are no module workers it is read here, and the page is busy meanwhile.

import { readPast } from "./past.js";

export class PastReader {
  #worker = null;
  #waiting = new Map(); // id -> {resolve, reject}
  #id = 0;

  // `base` is the service's address; `client` asks where no worker can.
  constructor({ base, client }) {
    Object.assign(this, { base, client });
    try {
      this.#worker = new Worker(new URL("./past-worker.js", import.meta.url), { type: "module" });
    } catch {
      return;
    }
    this.#worker.onmessage = ({ data: { id, found, fault } }) => {
      const { resolve, reject } = this.#waiting.get(id);
      this.#waiting.delete(id);
      if (fault === undefined) resolve(found);
      else reject(new Error(fault));
    };
    this.#worker.onerror = () => {
      this.#worker = null;
      for (const { wanted, resolve } of this.#waiting.values()) resolve(this.#here(wanted));
      this.#waiting.clear();
    };
  }

  // As readPast; `filter` is what the service narrows by.
  read(wanted) {
    if (this.#worker === null) return this.#here(wanted);
    const id = this.#id++;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { wanted, resolve, reject });
      this.#worker.postMessage({ id, base: this.base, ...wanted });
    });
  }

  #here({ filter, ...wanted }) {
    const { channel } = wanted;
    return readPast({
      ...wanted, ask: (page) => this.client.history(channel, { ...page, filter }),
      snapshot: (page) => this.client.snapshot(channel, { ...page, filter }),
    });
  }
}
