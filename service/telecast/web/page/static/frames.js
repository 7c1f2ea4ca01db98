// When the page is drawn. What somebody did shows in the next frame. What comes in is drawn at once where
// it was quiet, else together with all that comes within a tenth of a second: nobody reads faster.

const TOGETHER_MS = 100;

export class Frames {
  #frame = 0; // that was asked for
  #timer = 0; // until one is asked for
  #drawnAt = -Infinity;
  #after = [];

  // `draw()` is called in a frame. The others stand in for the browser's.
  constructor(draw, {
    request = (act) => requestAnimationFrame(act), later = (act, ms) => setTimeout(act, ms), cancel = (timer) => clearTimeout(timer),
    now = () => performance.now(),
  } = {}) {
    Object.assign(this, { draw, request, later, cancel, now });
  }

  // Somebody did something; `after` is called once it is drawn.
  next(after) {
    if (after) this.#after.push(after);
    this.cancel(this.#timer);
    this.#timer = 0;
    if (this.#frame === 0) this.#frame = this.request(() => this.#show());
  }

  // Something came in.
  soon() {
    if (this.#frame !== 0 || this.#timer !== 0) return;
    const wait = this.#drawnAt + TOGETHER_MS - this.now();
    if (wait <= 0) this.next();
    else this.#timer = this.later(() => this.next(), wait);
  }

  #show() {
    this.#frame = 0;
    this.#drawnAt = this.now();
    this.draw();
    for (const each of this.#after.splice(0)) each();
  }
}
