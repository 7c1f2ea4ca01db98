// Browsers allow six connections to a host: all tabs of this page live on one stream. Whoever
// holds the lock leads and passes on what comes; when it closes, the next one leads.

const LOCK = "telecast stream 2";
const CHANNEL = "telecast tabs 2";
const ANSWER_MS = 2000;
const SILENCE_MS = 16_000; // more than three heartbeats

export class Share {
  #channel = null;
  #me = crypto.getRandomValues(new Uint32Array(2)).join("-");
  #followers = new Set();
  #outbox = [];
  #pump = new MessageChannel(); // a task at once: timers of a hidden tab are held back
  #awaiting = 0;
  #heardAt = 0;
  #asking = null;
  #synced = false;
  #release = () => {};
  #timer = 0;

  // role: "leader", "follower", or "alone" where tabs can't or won't share.
  role = null;

  // `lead()` opens the stream, `again()` tries at once where it was lost; `take(items)` and `load(state)` are for followers; `dump()` gives
  // the state for a newcomer; `changed()` is called after the role or the session has changed. Tabs
  // share only where they want the same: `what` says it.
  constructor({ lead, again, take, load, dump, changed, sessionChanged, what = "" }) {
    Object.assign(this, { lead, again, take, load, dump, changed, sessionChanged, what });
    this.#pump.port1.onmessage = () => this.#flush();
    if ("BroadcastChannel" in self) {
      this.#channel = new BroadcastChannel(CHANNEL);
      this.#channel.onmessage = ({ data }) => this.#receive(data);
    }
  }

  async start() {
    if (this.#channel === null || !navigator.locks) {
      this.#become("alone"); // an address without TLS, other than localhost, has no locks
      return;
    }
    if (await this.#request({ ifAvailable: true })) return;
    this.#asking = new AbortController();
    this.#request({ signal: this.#asking.signal }).catch(() => {}); // aborted when we go alone
    this.#become("follower");
    this.#hello();
    this.#timer = setInterval(() => {
      if (this.role === "follower" && Date.now() - this.#heardAt > SILENCE_MS) this.#hello();
    }, 5000);
  }

  // Resolves false at once where another holds the lock, else true at once; the lock is kept.
  #request(options) {
    return new Promise((resolve, reject) => {
      navigator.locks
        .request(`${LOCK}${this.what}`, options, (lock) => {
          resolve(lock !== null);
          if (lock === null) return undefined;
          this.#become("leader");
          return new Promise((release) => (this.#release = release));
        })
        .catch(reject);
    });
  }

  // Leave the others alone, and the stream to the next of them.
  close() {
    clearInterval(this.#timer);
    clearTimeout(this.#awaiting);
    this.#asking?.abort();
    this.#channel?.close();
    this.role = null;
    this.#release();
  }

  #become(role) {
    clearTimeout(this.#awaiting);
    this.role = role;
    if (role === "leader") this.#post({ kind: "leads" });
    this.changed();
    if (role !== "follower") this.lead();
  }

  // To the other tabs, as one message for all that came in this turn.
  tell(item) {
    if (this.role !== "leader" || this.#followers.size === 0) return;
    if (this.#outbox.push(item) === 1) this.#pump.port2.postMessage(null);
  }

  // The leader is to try at once.
  askAgain() {
    this.#post({ kind: "again" });
  }

  tellSessionChanged() {
    this.#post({ kind: "session" });
  }

  #flush() {
    const items = this.#outbox;
    this.#outbox = [];
    if (items.length) this.#post({ kind: "items", items });
  }

  #hello() {
    this.#heardAt = Date.now();
    this.#post({ kind: "hello" });
    clearTimeout(this.#awaiting);
    // A leader that is frozen holds the lock and says nothing.
    this.#awaiting = setTimeout(() => {
      this.#asking?.abort();
      this.#become("alone");
    }, ANSWER_MS);
  }

  #post(message) {
    this.#channel?.postMessage({ ...message, from: this.#me, what: this.what });
  }

  #receive(message) {
    if (message.kind !== "session" && message.what !== this.what) return;
    switch (message.kind) {
      case "hello":
        if (this.role !== "leader") return;
        this.#followers.add(message.from);
        this.#flush(); // what the others were not sent yet is in the state: not twice
        this.#post({ kind: "state", to: message.from, state: this.dump() });
        break;
      case "again":
        if (this.role === "leader") this.again();
        break;
      case "leads":
        if (this.role === "follower") this.#hello();
        break;
      case "state":
        if (message.to !== this.#me || this.role !== "follower") return;
        clearTimeout(this.#awaiting);
        this.#heardAt = Date.now();
        this.#synced = true;
        this.load(message.state);
        break;
      case "items":
        if (this.role !== "follower" || !this.#synced) return;
        this.#heardAt = Date.now();
        // When it came is when it came here: a tab that is busy is late though its leader is not.
        this.take(message.items.map((item) => ({ ...item, at: Math.max(item.at, this.#heardAt) })));
        break;
      case "session":
        this.sessionChanged();
        break;
    }
  }
}
