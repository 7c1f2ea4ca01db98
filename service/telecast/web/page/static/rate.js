// How many events come in a second.

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
