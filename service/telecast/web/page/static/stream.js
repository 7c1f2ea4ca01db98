// One EventSource, for as long as it takes. It comes back by itself with its Last-Event-ID; where
// a browser has closed it for good, this finds out why, and opens another where that can help.

const TYPES = [
  "welcome", "ack", "snapshot", "resume", "live", "conflated", "gap", "heartbeat", "notice", "fault",
];
const BACKOFF = { first: 1000, most: 20000 };
const SILENT_BEATS = 3;

export class Stream {
  #source = null;
  #timer = 0;
  #watch = 0;
  #failures = 0;
  #heardAt = 0;
  #beatSeconds = 15;

  // `emit` takes items: {name, text, id, at}, in order. Names with "~" are told by this class:
  // ~lost {retryAt}, ~ended {code, message}.
  constructor({ path, channels, emit }) {
    this.path = path;
    this.channels = channels;
    this.emit = emit;
    this.position = null;
  }

  open(since = this.position) {
    this.close();
    this.position = since;
    const query = new URLSearchParams({ clientId: "page" });
    // A header can't be set here: the query says where to go on, until there is an event id.
    if (since) query.set("since", since);
    this.#listen(new EventSource(`${this.path}?${query}`));
    this.#heardAt = Date.now();
    this.#watch = setInterval(() => this.#check(), 5000);
  }

  close() {
    clearTimeout(this.#timer);
    clearInterval(this.#watch);
    this.#source?.close();
    this.#source = null;
  }

  #listen(source) {
    this.#source = source;
    const hear = (event) => this.#hear(event);
    for (const name of [...TYPES, ...this.channels]) source.addEventListener(name, hear);
    source.onopen = () => {
      this.#failures = 0;
      this.#heardAt = Date.now();
    };
    source.onerror = () => {
      if (this.#source !== source) return;
      if (source.readyState === EventSource.CLOSED) this.#findOut();
      else this.#tell("~lost", { retryAt: null });
    };
  }

  #hear(event) {
    this.#heardAt = Date.now();
    if (event.lastEventId) this.position = event.lastEventId;
    if (event.type === "welcome") this.#beatSeconds = JSON.parse(event.data).heartbeatSeconds;
    this.emit({ name: event.type, text: event.data, id: this.position, at: this.#heardAt });
  }

  // A cable that was cut says nothing: heartbeats that stop do.
  #check() {
    const silent = Date.now() - this.#heardAt;
    if (this.#source?.readyState === EventSource.OPEN && silent > SILENT_BEATS * this.#beatSeconds * 1000) {
      this.#tell("~lost", { retryAt: Date.now() });
      this.open();
    }
  }

  // EventSource hides the status: the same question by fetch shows it.
  async #findOut() {
    this.close();
    const asking = new AbortController();
    let answer = null;
    try {
      const response = await fetch(this.path, {
        headers: { Accept: "application/json" },
        signal: asking.signal,
      });
      answer = { status: response.status };
      if (!response.ok) answer.error = (await response.json()).error;
    } catch {
      // nobody there, or no answer of ours: both are worth another try
    }
    asking.abort();
    if (answer?.error && !answer.error.retryable) {
      this.#tell("~ended", { code: answer.error.code, message: answer.error.message, status: answer.status });
      return;
    }
    const wait = Math.min(BACKOFF.most, BACKOFF.first * 2 ** this.#failures++);
    const spread = wait * (0.75 + Math.random() / 2);
    this.#tell("~lost", { retryAt: Date.now() + spread });
    this.#timer = setTimeout(() => this.open(), spread);
  }

  #tell(name, body) {
    this.emit({ name, text: JSON.stringify(body), id: this.position, at: Date.now() });
  }
}
