// Lines over time, bounded: points of [ms, number, decimal text] in order. Where there are too many, the
// last minutes stay as they are, and before them the peaks and troughs of equal pieces of time: however
// long a page is open, a line holds no more, and its morning is not coarser than its noon. Pure: it runs
// on the page and off its main thread.

const MOST_POINTS = 1000; // of one line; then it is thinned
const RECENT_MS = 300_000; // before its end: these points stay
const PIECES = 150; // of the time before, with three points each: the least, the greatest, the last
const DAY_MS = 86_400_000;
const MOST_LINES = 500;
const CLOSE_MS = 1000; // points that are closer become one

// At most 2 x `most` points of a long line, with every peak and trough kept: the least and the
// greatest of each piece.
export function thin(points, most) {
  if (points.length <= 2 * most) return points;
  const found = [];
  for (let piece = 0; piece < most; piece++) {
    const from = Math.floor((piece * points.length) / most);
    const to = Math.floor(((piece + 1) * points.length) / most);
    let [low, high] = [from, from];
    for (let i = from; i < to; i++) {
      if (points[i][1] < points[low][1]) low = i;
      if (points[i][1] > points[high][1]) high = i;
    }
    found.push(points[Math.min(low, high)]);
    if (low !== high) found.push(points[Math.max(low, high)]);
  }
  return found;
}

// The same with the ends as they are.
export function thinned(points, most) {
  return points.length <= 2 * most + 2 ? points : [points[0], ...thin(points.slice(1, -1), most), points.at(-1)];
}

// A line that has become too long. No piece goes on over a midnight, here or by UTC, and the last point of
// each stays: the P&L of a day is counted from it.
export function settled(points) {
  const [first, last] = [points[0][0], points.at(-1)[0]];
  const until = last - RECENT_MS;
  const step = (until - first) / PIECES || 1;
  const pieceOf = (at) => `${Math.floor((at - first) / step)} ${Math.floor(at / DAY_MS)} ${new Date(at).getDate()}`;
  const found = [points[0]];
  let [piece, low, high, latest] = ["", null, null, null];
  const put = () => {
    if (latest !== null) found.push(...[...new Set([low, high, latest])].sort(([a], [b]) => a - b));
  };
  let index = 1;
  for (; index < points.length && points[index][0] <= until; index++) {
    const point = points[index];
    const its = pieceOf(point[0]);
    if (its !== piece) {
      put();
      [piece, low, high] = [its, point, point];
    }
    if (point[1] < low[1]) low = point;
    if (point[1] > high[1]) high = point;
    latest = point;
  }
  put();
  const all = found.concat(points.slice(index));
  return all.length > MOST_POINTS ? thinned(all, MOST_POINTS / 4) : all;
}

export class Lines {
  #lines = new Map(); // name -> points

  constructor(lines = new Map()) {
    this.#lines = lines;
  }

  add(name, at, text) {
    const value = Number(text ?? NaN);
    if (!Number.isFinite(value)) return;
    let line = this.#lines.get(name);
    if (line === undefined) {
      if (this.#lines.size >= MOST_LINES) return;
      this.#lines.set(name, (line = []));
    }
    const last = line.at(-1);
    // The first stays as it was: the P&L of the day is counted from it.
    if (line.length > 1 && at - last[0] < CLOSE_MS) [last[1], last[2]] = [value, text];
    else line.push([at, value, text]);
    if (line.length > MOST_POINTS) this.#lines.set(name, settled(line));
  }

  // An event of a channel that lines are made of.
  observe({ channel, op, key, data, timestamp }) {
    if (op === "delete") return;
    if (channel === "market-data") this.add(`price ${key}`, timestamp, data.price);
    if (channel === "trader-status" && data.metrics) this.add(`profit ${key}`, timestamp, data.metrics.netProfit);
  }

  // Older points before those that are there already.
  before(older) {
    for (const [name, points] of older.#lines) {
      const newer = this.#lines.get(name) ?? [];
      const first = newer[0]?.[0] ?? Infinity;
      const all = [...points.filter(([at]) => at < first), ...newer];
      this.#lines.set(name, all.length > MOST_POINTS ? settled(all) : all);
    }
  }

  // Each line begins then, with what it had: what was before is not kept.
  from(instant) {
    for (const [name, points] of this.#lines) {
      const index = points.findIndex(([at]) => at > instant);
      const [before, after] = index < 0 ? [points, []] : [points.slice(0, index), points.slice(index)];
      const last = before.at(-1);
      this.#lines.set(name, last === undefined ? after : [[instant, last[1], last[2]], ...after]);
    }
  }

  of(name) {
    return this.#lines.get(name) ?? [];
  }

  names() {
    return [...this.#lines.keys()];
  }

  // The newest point of any.
  lastAt() {
    return Math.max(...[...this.#lines.values()].map((line) => line.at(-1)[0]));
  }

  firstAfter(instant) {
    return Math.min(...[...this.#lines.values()].map((line) => line.find(([at]) => at > instant)?.[0] ?? Infinity));
  }

  // For a structured clone.
  dump() {
    return this.#lines;
  }
}
