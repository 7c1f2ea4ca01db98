// Candles of the channel `candles`, and how they are drawn.

import { compareDecimals } from "./format.js";

const MOST_SERIES = 500;
const MOST_CANDLES = 2000; // of one series: the newest

export class Candles {
  #series = new Map(); // key of the row -> opened (ms) -> candle

  observe({ op, key, seq, data }) {
    if (op === "upsert") this.#put(key, { ...data, at: Date.parse(data.openTime), seq });
  }

  #put(key, candle) {
    let series = this.#series.get(key);
    if (series === undefined) {
      if (this.#series.size >= MOST_SERIES) return;
      this.#series.set(key, (series = new Map()));
    }
    const { at, seq } = candle;
    // The history comes after the stream: what is newer stays.
    if (!Number.isFinite(at) || series.get(at)?.seq > seq) return;
    series.set(at, candle);
    if (series.size > 2 * MOST_CANDLES) this.#series.set(key, new Map(this.of(key).slice(-MOST_CANDLES).map((each) => [each.at, each])));
  }

  // For a structured clone.
  dump() {
    return this.#series;
  }

  // Those of the past, that somebody has dumped. What is newer stays.
  merge(series) {
    for (const [key, candles] of series) {
      for (const [, candle] of candles) this.#put(key, candle);
    }
  }

  names() {
    return [...this.#series.keys()];
  }

  // In the order of time.
  of(key) {
    return [...(this.#series.get(key)?.values() ?? [])].sort((a, b) => a.at - b.at);
  }
}

// The least time between two: how wide one is.
export function stepOf(candles) {
  let step = Infinity;
  for (let i = 1; i < candles.length; i++) step = Math.min(step, candles[i].at - candles[i - 1].at);
  return Number.isFinite(step) ? step : 60_000;
}

// `add` puts an element into the picture; `x` and `y` are its scales. One that fell is filled, one
// that rose is hollow, so that they differ without colour; one that is still open is faint.
export function drawCandles(candles, { add, x, y }) {
  const wide = Math.max(1, (x(stepOf(candles)) - x(0)) * 0.65);
  for (const candle of candles) {
    const fell = compareDecimals(candle.close, candle.open) < 0;
    const [upper, lower] = fell ? [candle.open, candle.close] : [candle.close, candle.open];
    const middle = x(candle.at);
    const look = { "data-tone": fell ? "loss" : "gain", class: candle.closed ? "candle" : "candle open" };
    add("path", { ...look, d: `M${middle} ${y(Number(candle.high))}V${y(Number(upper))}M${middle} ${y(Number(lower))}V${y(Number(candle.low))}` });
    const height = Math.max(1, y(Number(lower)) - y(Number(upper)));
    add("rect", { ...look, class: `${look.class} ${fell ? "fell" : "rose"}`, x: middle - wide / 2, y: y(Number(upper)), width: wide, height });
  }
}
