// A line of the last values, in SVG of our own.

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 96;
const HEIGHT = 24;

export function sparkline() {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("class", "spark");
  svg.setAttribute("aria-hidden", "true");
  const area = svg.appendChild(document.createElementNS(SVG, "path"));
  area.setAttribute("class", "spark-area");
  const line = svg.appendChild(document.createElementNS(SVG, "path"));
  line.setAttribute("class", "spark-line");
  return svg;
}

export function draw(svg, values, tone = "", least = Infinity) {
  const [area, line] = svg.children;
  svg.setAttribute("data-tone", tone);
  if (values.length < 2) {
    line.setAttribute("d", `M0 ${HEIGHT / 2}H${WIDTH}`);
    area.setAttribute("d", "");
    return;
  }
  const low = Math.min(least, ...values);
  const range = Math.max(...values) - low || 1;
  const step = WIDTH / (values.length - 1);
  let path = "";
  for (let i = 0; i < values.length; i++) {
    const y = HEIGHT - 2 - ((values[i] - low) / range) * (HEIGHT - 4);
    path += `${i ? "L" : "M"}${(i * step).toFixed(1)} ${y.toFixed(1)}`;
  }
  line.setAttribute("d", path);
  area.setAttribute("d", `${path}L${WIDTH} ${HEIGHT}L0 ${HEIGHT}Z`);
}

// The last values of each key, a value at most so often, so that a line spans minutes.
export class Trails {
  #trails = new Map();

  constructor({ points = 60, everyMs = 500 } = {}) {
    this.points = points;
    this.everyMs = everyMs;
  }

  add(key, value, at) {
    if (!Number.isFinite(value)) return;
    let trail = this.#trails.get(key);
    if (trail === undefined) this.#trails.set(key, (trail = { values: [], at: 0 }));
    if (at - trail.at >= this.everyMs) {
      trail.values.push(value);
      trail.at = at;
      if (trail.values.length > this.points) trail.values.shift();
    } else {
      trail.values[trail.values.length - 1] = value;
    }
  }

  // For a structured clone.
  dump() {
    return this.#trails;
  }

  // Those of the past, before what came meanwhile.
  merge(older) {
    for (const [key, { values, at }] of older) {
      const newer = this.#trails.get(key);
      this.#trails.set(key, { values: [...values, ...(newer?.values ?? [])].slice(-this.points), at: newer?.at ?? at });
    }
  }

  of(key) {
    return this.#trails.get(key)?.values ?? [];
  }

  // Forget keys that are gone.
  keep(keys) {
    for (const key of this.#trails.keys()) if (!keys.has(key)) this.#trails.delete(key);
  }
}
