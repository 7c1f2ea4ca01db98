// Numbers and times as people read them. Decimals stay text: they are never floats on the way.

import { LANGUAGE, T } from "./texts.js";

const DECIMAL = /^(-?)(\d+)(\.\d+)?$/;
const MINUS = "\u2212";
const DAY_MS = 86_400_000;
let zone; // undefined: the browser's
let clockOf, dayOf;

// "local" or "UTC".
export function setZone(name) {
  zone = name === "UTC" ? "UTC" : undefined;
  clockOf = new Intl.DateTimeFormat(LANGUAGE, { hour: "2-digit", minute: "2-digit", second: "2-digit", timeZone: zone });
  dayOf = new Intl.DateTimeFormat(LANGUAGE, { day: "2-digit", month: "short", timeZone: zone });
}

setZone("local");

export function zoneName() {
  return zone ?? Intl.DateTimeFormat().resolvedOptions().timeZone;
}

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

// -1, 0 or 1, exactly; what is no decimal comes last.
export function compareDecimals(a, b) {
  const [first, second] = [Number(a ?? NaN), Number(b ?? NaN)];
  if (Number.isNaN(first) || Number.isNaN(second)) return Number.isNaN(first) - Number.isNaN(second);
  if (first !== second) return first < second ? -1 : 1;
  if (a === b || !DECIMAL.test(a) || !DECIMAL.test(b)) return 0;
  const difference = sum([a, b.startsWith("-") ? b.slice(1) : `-${b}`]);
  return difference.startsWith("-") ? -1 : /[1-9]/.test(difference) ? 1 : 0;
}

// To at most `places`, for a headline: cut, not rounded. What is smaller keeps its first two digits.
export function shorten(text, places) {
  if (text == null) return text;
  const dot = text.indexOf(".");
  if (dot < 0) return text;
  const short = text.slice(0, dot + 1 + places);
  if (/[1-9]/.test(short)) return short;
  const first = text.search(/[1-9]/);
  return first < 0 ? short : text.slice(0, first + 2);
}

export function percent(ratio, { signed = false, places = 2 } = {}) {
  if (ratio == null) return "–";
  const text = Math.abs(ratio * 100).toFixed(places);
  const zero = !/[1-9]/.test(text);
  return (zero ? "" : ratio < 0 ? MINUS : signed ? "+" : "") + text + "%";
}

// The time of day, with the day where it is not today.
export function time(instant, now = Date.now()) {
  const date = new Date(instant);
  if (instant == null || Number.isNaN(date.getTime())) return "–";
  const day = dayOf.format(date);
  return day === dayOf.format(now) ? clockOf.format(date) : `${day} ${clockOf.format(date)}`;
}

// When the day of an instant began, in the zone that is shown.
export function dayStart(instant) {
  return zone === "UTC" ? Math.floor(instant / DAY_MS) * DAY_MS : new Date(instant).setHours(0, 0, 0, 0);
}

export function milliseconds(value) {
  return value < 1000 ? `${Math.round(value)} ms` : `${(value / 1000).toFixed(1)} s`;
}

export function span(ms) {
  if (ms < 10_000) return `${(ms / 1000).toFixed(ms % 1000 ? 1 : 0)} s`;
  if (ms < 120_000) return `${Math.round(ms / 1000)} s`;
  if (ms < 2 * 3600_000) return `${Math.round(ms / 60_000)} min`;
  if (ms < 48 * 3600_000) return `${Math.round(ms / 3600_000)} h`;
  return `${Math.round(ms / 86_400_000)} days`;
}

// PT6H30M as people say it.
export function duration(text) {
  const match = /^P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:[\d.]+S)?)?$/.exec(text ?? "");
  if (match === null) return text ?? "–";
  const parts = [match[1] && `${match[1]} d`, match[2] && `${match[2]} h`, match[3] && `${match[3]} min`];
  return parts.filter(Boolean).slice(0, 2).join(" ") || "< 1 min";
}

export function count(number) {
  return number.toLocaleString(LANGUAGE);
}

const QUOTES = [
  "FDUSD", "USDT", "USDC", "BUSD", "TUSD", "USDD", "DAI", "USD", "EUR", "GBP", "JPY", "CHF", "AUD", "CAD", "TRY",
  "BRL", "BTC", "XBT", "ETH", "BNB",
];
const BASES = new Set(
  ("BTC XBT ETH BNB SOL XRP ADA DOGE DOT LTC AVAX LINK MATIC POL TRX ATOM BCH XLM ETC FIL UNI EOS XMR NEAR APT ARB OP " +
    "SUI SHIB PEPE AAVE ALGO ICP HBAR TON INJ").split(" "),
);

// What a symbol is quoted in; null where it does not say for sure. BTCUSDT, BTC/USDT, BTC/USDT:USDT.
export function quoteOf(symbol) {
  const plain = String(symbol).toUpperCase();
  const parts = plain.split(":")[0].split(/[/_-]/).filter(Boolean);
  if (parts.length > 1) return parts[1];
  const fits = QUOTES.filter((quote) => plain.endsWith(quote) && plain.length > quote.length);
  if (fits.length < 2) return fits[0] ?? null;
  // XBTUSD ends with USD and with TUSD: what is left tells, or nothing does.
  return fits.find((quote) => BASES.has(plain.slice(0, -quote.length))) ?? null;
}

export function named(state) {
  return T.states[state] ?? state;
}
