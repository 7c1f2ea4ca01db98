// Numbers and times as people read them. Decimals stay text: they are never floats on the way.

const DECIMAL = /^(-?)(\d+)(\.\d+)?$/;
const TIME = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const MINUS = "\u2212";

export function decimal(text, { signed = false } = {}) {
  const match = DECIMAL.exec(text ?? "");
  if (match === null) return text ?? "–";
  const [, minus, whole, rest = ""] = match;
  const grouped = whole.replace(/\B(?=(\d{3})+$)/g, ",");
  const zero = !/[1-9]/.test(text);
  const sign = zero ? "" : minus ? MINUS : signed ? "+" : "";
  return sign + grouped + rest;
}

export function toneOf(text) {
  if (text == null || !/[1-9]/.test(text)) return "";
  return text.startsWith("-") || text.startsWith(MINUS) ? "loss" : "gain";
}

// The exact sum of decimal texts, as decimal text.
export function sum(texts) {
  let scale = 0;
  const parts = [];
  for (const text of texts) {
    const match = DECIMAL.exec(text ?? "");
    if (match === null) continue;
    parts.push(match);
    scale = Math.max(scale, (match[3] ?? ".").length - 1);
  }
  let total = 0n;
  for (const [, minus, whole, rest = "."] of parts) {
    const units = BigInt(whole + rest.slice(1).padEnd(scale, "0"));
    total += minus ? -units : units;
  }
  const digits = (total < 0n ? -total : total).toString().padStart(scale + 1, "0");
  const cut = digits.length - scale;
  return (total < 0n ? "-" : "") + digits.slice(0, cut) + (scale ? "." + digits.slice(cut) : "");
}

// To at most `places`, for a headline: cut, not rounded.
export function shorten(text, places) {
  const dot = text.indexOf(".");
  return dot < 0 ? text : text.slice(0, dot + 1 + places);
}

export function percent(ratio, { signed = false, places = 2 } = {}) {
  if (ratio == null) return "–";
  const text = Math.abs(ratio * 100).toFixed(places);
  const zero = !/[1-9]/.test(text);
  return (zero ? "" : ratio < 0 ? MINUS : signed ? "+" : "") + text + "%";
}

export function time(instant) {
  const date = new Date(instant);
  return Number.isNaN(date.getTime()) ? "–" : TIME.format(date);
}

export function milliseconds(value) {
  return value < 1000 ? `${Math.round(value)} ms` : `${(value / 1000).toFixed(1)} s`;
}

export function span(ms) {
  if (ms < 60_000) return `${(ms / 1000).toFixed(1)} s`;
  return `${Math.round(ms / 60_000)} min`;
}
