// How old what we see is. The service stamps each event with its own clock, so that clock's offset
// to ours is measured first, and what can't be known of it is said.

const PROBES = 4;
const WINDOW_MS = 5000;
const MOST = 400;

export class Clock {
  #lags = []; // {at, lag}
  offset = null; // ms that the service's clock is ahead of ours
  doubt = 0; // half the best round trip: how wrong the offset may be

  // Ask a few times, and believe the fastest answer (as NTP does).
  async measure(ask) {
    let best = null;
    for (let probe = 0; probe < PROBES; probe++) {
      const sent = performance.timeOrigin + performance.now();
      const told = await ask();
      const back = performance.timeOrigin + performance.now();
      if (best === null || back - sent < best.trip) {
        best = { trip: back - sent, offset: told - (sent + back) / 2 };
      }
    }
    // Below the doubt it is no difference that anyone has seen.
    this.doubt = best.trip / 2;
    this.offset = Math.abs(best.offset) <= this.doubt + 1 ? 0 : best.offset;
  }

  event(timestamp, at) {
    this.#lags.push({ at, lag: at + (this.offset ?? 0) - timestamp });
    if (this.#lags.length > MOST) this.#lags.splice(0, MOST / 2);
  }

  // The median of the last seconds in ms; null when nothing came.
  lag(now) {
    const recent = this.#lags.filter(({ at }) => at > now - WINDOW_MS).map(({ lag }) => lag);
    if (recent.length === 0) return null;
    recent.sort((a, b) => a - b);
    return Math.max(0, recent[recent.length >> 1]);
  }
}

const SECONDS = 60;

export class Rate {
  #counts = new Array(SECONDS).fill(0);
  #second = 0;

  hit(at, number = 1) {
    this.#roll(at);
    this.#counts[this.#second % SECONDS] += number;
  }

  // Events in each of the last whole seconds, oldest first.
  history(now) {
    this.#roll(now);
    const from = this.#second + 1;
    return Array.from({ length: SECONDS - 1 }, (_, i) => this.#counts[(from + i) % SECONDS]);
  }

  // Over the last five whole seconds.
  now(now) {
    const last = this.history(now).slice(-5);
    return last.reduce((sum, count) => sum + count, 0) / last.length;
  }

  #roll(at) {
    const second = Math.floor(at / 1000);
    const steps = Math.min(SECONDS, second - this.#second);
    for (let step = 1; step <= steps; step++) this.#counts[(second - steps + step) % SECONDS] = 0;
    if (second > this.#second) this.#second = second;
  }
}
