// Time passes: some ticks a second, whether the computer slept or its clock was set in between, and how far it
// is from the service's clock.

import { Clock } from "../client/telecast.js";
import * as session from "./session.js";

const MEASURE_MS = 10 * 60_000; // the clocks, and with it the session is renewed
const AGAIN_MS = 10_000; // where nothing was learned: nobody answered, or a clock was set meanwhile
const TICK_MS = 250; // so soon after it is due a delay shows
const SLEPT_MS = 4000; // a tick that is so late: the computer slept, or the tab was frozen
const JUMP_MS = 500; // this computer's clock was set

export class Pulse {
  clock = new Clock();
  #tickAt = Date.now();
  #skew = monotonic() - Date.now();
  #again = 0;

  // `beat(now)` is called at each tick; `woke()` when time was lost or set; `measured(why)` once the clocks
  // were compared, with why the session is over, or null.
  constructor({ beat, woke, measured }) {
    Object.assign(this, { beat, woke, measured });
  }

  start() {
    this.measure();
    setInterval(() => this.measure(), MEASURE_MS);
    setInterval(() => this.#tick(), TICK_MS);
    document.addEventListener("visibilitychange", () => this.#tick());
  }

  #tick() {
    const now = Date.now();
    const slept = now - this.#tickAt > TICK_MS + SLEPT_MS;
    const skew = monotonic() - now;
    this.#tickAt = now;
    if (slept || Math.abs(skew - this.#skew) > JUMP_MS) {
      this.#skew = skew;
      this.woke();
      this.measure();
    }
    this.beat(now);
  }

  async measure() {
    clearTimeout(this.#again);
    let over = null;
    let learned = false;
    try {
      let me = null;
      learned = await this.clock.measure(async () => (me = await session.whoAmI()).serverTime);
      if (!me.signedIn) over = me.why.message;
    } catch {
      // not reachable: the connection's state says so already
    }
    clearTimeout(this.#again); // of another measurement that was under way
    if (!learned) this.#again = setTimeout(() => this.measure(), AGAIN_MS);
    this.measured(over);
  }
}

function monotonic() {
  return performance.timeOrigin + performance.now();
}
