// A chart in SVG of our own: an area with its line, or candles; levels across it, a crosshair. What is
// computed is pure and apart from what is drawn.

import { drawCandles, stepOf } from "./candles.js";
import { LANGUAGE, T } from "./texts.js";
import { make } from "./dom.js";
import { decimal, time } from "./format.js";
import { thin } from "./lines.js";

const SVG = "http://www.w3.org/2000/svg";
const CANDLE_PX = 5; // narrower ones are nothing to look at
const PAD = { left: 8, right: 78, top: 10, bottom: 22 };

// Round numbers between two, about so many.
export function ticks(low, high, about) {
  const span = high - low || Math.abs(high) || 1;
  const rough = span / about;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((each) => each * power).find((each) => each >= rough);
  const found = [];
  for (let at = Math.ceil(low / step); at * step <= high; at++) found.push(Number((at * step).toPrecision(12)));
  return found;
}

export class Plot {
  #points = [];
  #cross = null; // the index of the point under the crosshair
  #size = [0, 0]; // as it was laid out last: asked in a frame, it would be laid out once more

  constructor(label) {
    this.label = label;
    this.element = make("div", "plot");
    this.element.tabIndex = 0;
    this.element.setAttribute("role", "img");
    this.svg = this.element.appendChild(document.createElementNS(SVG, "svg"));
    this.svg.setAttribute("aria-hidden", "true");
    this.tip = this.element.appendChild(make("div", "tip"));
    this.tip.setAttribute("aria-live", "polite");
    this.element.addEventListener("pointermove", ({ clientX }) => this.#at(clientX));
    this.element.addEventListener("pointerleave", () => this.#mark(null));
    this.element.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity }[event.key];
      if (step === undefined || !this.#points.length) return;
      event.preventDefault();
      const last = this.#points.length - 1;
      this.#mark(Math.max(0, Math.min(last, (this.#cross ?? last) + step)));
    });
    new ResizeObserver(([{ contentRect }]) => {
      this.#size = [Math.round(contentRect.width), Math.round(contentRect.height)];
      this.draw();
    }).observe(this.element);
  }

  // `points` are [ms, number, exact text] in order, `levels` [name, value, tone]; `candles` stand in
  // place of points.
  show({ points = [], candles = null, levels = [], title, tone = "calm", zero = false }) {
    Object.assign(this, { all: points, candles, levels, tone, zero });
    this.element.setAttribute("aria-label", this.label(title, (candles ?? points).length));
    this.draw();
  }

  draw() {
    const [width, height] = this.#size;
    if (!this.all || width < 50 || height < 40) return;
    const candles = this.candles?.slice(-Math.floor((width - PAD.left - PAD.right) / CANDLE_PX));
    const points = (this.#points = candles
      ? candles.map((each) => [each.at, Number(each.close), T.charts.candle(each, decimal)])
      : thin(this.all, Math.max(50, width)).map(([at, value, text]) => [at, value, decimal(text)]));
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.svg.replaceChildren();
    if (points.length < 2) return;
    const values = [...points.map(([, value]) => value), ...this.levels.map(([, value]) => value)];
    for (const { low, high } of candles ?? []) values.push(Number(low), Number(high));
    if (this.zero) values.push(0);
    const [low, high] = [Math.min(...values), Math.max(...values)];
    const room = (high - low || Math.abs(high) || 1) * 0.06;
    const [bottom, top] = [low - room, high + room];
    const half = candles ? stepOf(candles) / 2 : 0;
    const [from, to] = [points[0][0] - half, points.at(-1)[0] + half];
    this.x = (at) => PAD.left + ((at - from) / (to - from || 1)) * (width - PAD.left - PAD.right);
    this.y = (value) => height - PAD.bottom - ((value - bottom) / (top - bottom)) * (height - PAD.top - PAD.bottom);
    const right = width - PAD.right;
    const show = new Intl.NumberFormat(LANGUAGE, { maximumSignificantDigits: 7 });
    for (const tick of ticks(bottom, top, Math.max(2, height / 55))) {
      this.#add("line", { x1: PAD.left, x2: right, y1: this.y(tick), y2: this.y(tick), class: "grid" });
      this.#add("text", { x: right + 6, y: this.y(tick) + 4, class: "axis" }, show.format(tick));
    }
    const steps = Math.max(2, Math.floor(width / 160));
    for (let step = 0; step <= steps; step++) {
      const at = from + ((to - from) * step) / steps;
      const anchor = step === 0 ? "start" : step === steps ? "end" : "middle";
      this.#add("text", { x: this.x(at), y: height - 6, class: "axis", "text-anchor": anchor }, time(at));
    }
    if (candles) drawCandles(candles, { add: (...what) => this.#add(...what), x: this.x, y: this.y });
    else this.#line(points, bottom);
    for (const [name, value, tone] of this.levels) {
      this.#add("line", { x1: PAD.left, x2: right, y1: this.y(value), y2: this.y(value), class: "level", "data-tone": tone });
      this.#add("text", { x: PAD.left + 4, y: this.y(value) - 4, class: "axis", "data-tone": tone }, name);
    }
    this.cross = this.#add("line", { class: "cross", y1: PAD.top, y2: height - PAD.bottom });
    this.dot = this.#add("circle", { class: "cross-dot", r: 3.5 });
    this.#mark(this.#cross !== null && this.#cross < points.length ? this.#cross : null);
  }

  #line(points, bottom) {
    const path = points.map(([at, value], index) => `${index ? "L" : "M"}${this.x(at).toFixed(1)} ${this.y(value).toFixed(1)}`).join("");
    const floor = this.y(this.zero ? 0 : bottom).toFixed(1);
    this.#add("path", { d: `${path}L${this.x(points.at(-1)[0]).toFixed(1)} ${floor}L${PAD.left} ${floor}Z`, class: "area", "data-tone": this.tone });
    this.#add("path", { d: path, class: "line", "data-tone": this.tone });
  }

  #add(name, attributes, text) {
    const element = this.svg.appendChild(document.createElementNS(SVG, name));
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    if (text !== undefined) element.textContent = text;
    return element;
  }

  #at(clientX) {
    if (this.#points.length < 2) return;
    const x = clientX - this.element.getBoundingClientRect().left;
    let best = 0;
    this.#points.forEach(([at], index) => {
      if (Math.abs(this.x(at) - x) < Math.abs(this.x(this.#points[best][0]) - x)) best = index;
    });
    this.#mark(best);
  }

  #mark(index) {
    this.#cross = index;
    if (!this.cross?.isConnected) return;
    const point = index === null ? null : this.#points[index];
    for (const each of [this.cross, this.dot]) each.style.display = point ? "" : "none";
    this.tip.textContent = point ? `${time(point[0])}  ${point[2]}` : "";
    if (!point) return;
    for (const end of ["x1", "x2"]) this.cross.setAttribute(end, this.x(point[0]));
    this.dot.setAttribute("cx", this.x(point[0]));
    this.dot.setAttribute("cy", this.y(point[1]));
  }
}
