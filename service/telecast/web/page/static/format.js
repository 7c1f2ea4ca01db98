// Numbers and times as people read them. Decimals stay text: they are never floats on the way.

import { LANGUAGE, T } from "./texts.js";

export const DECIMAL = /^(-?)(\d+)(\.\d+)?$/;
const MINUS = "\u2212";
const DAY_MS = 86_400_000;
const ZONES = {}; // exchange -> where it is; filled below
for (const [place, names] of Object.entries({
  "America/New_York": "NYSE NASDAQ ARCA AMEX BATS IEX CBOE NYMEX COMEX",
  "America/Chicago": "CME CBOT GLOBEX", "America/Toronto": "TSX", "America/Sao_Paulo": "B3 BOVESPA",
  "Europe/London": "LSE LME ICE", "Europe/Berlin": "XETRA EUREX FRA", "Europe/Paris": "EURONEXT PAR",
  "Europe/Zurich": "SIX", "Europe/Madrid": "BME", "Europe/Stockholm": "OMX", "Asia/Tokyo": "TSE JPX OSE",
  "Asia/Hong_Kong": "HKEX SEHK", "Asia/Shanghai": "SSE SZSE", "Asia/Singapore": "SGX", "Asia/Seoul": "KRX",
  "Asia/Kolkata": "NSE BSE", "Asia/Taipei": "TWSE", "Australia/Sydney": "ASX",
})) for (const name of names.split(" ")) ZONES[name] = place;
const formats = new Map(); // zone -> {clock, day}
let shown = "local";

// "local", "UTC", or "exchange": that of the exchange that a time belongs to.
export function setZone(name) {
  shown = ["UTC", "exchange"].includes(name) ? name : "local";
}

// Where it is not known where an exchange is, it keeps UTC, as those of crypto do.
export function zoneOf(exchange) {
  if (shown === "local") return undefined; // the browser's
  return (shown === "exchange" && ZONES[String(exchange ?? "").toUpperCase()]) || "UTC";
}

function formatsOf(zone) {
  let found = formats.get(zone);
  if (found === undefined) {
    const clock = { hour: "2-digit", minute: "2-digit", second: "2-digit" };
    formats.set(zone, (found = {
      clock: new Intl.DateTimeFormat(LANGUAGE, { ...clock, timeZone: zone }),
      named: new Intl.DateTimeFormat(LANGUAGE, { ...clock, timeZone: zone, timeZoneName: "short" }),
      day: new Intl.DateTimeFormat(LANGUAGE, { day: "2-digit", month: "short", timeZone: zone }),
    }));
  }
  return found;
}

export function zoneName() {
  if (shown === "exchange") return T.exchangeZone;
  return zoneOf(null) ?? Intl.DateTimeFormat().resolvedOptions().timeZone;
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

// -1, 0 or 1, exactly; what is no decimal comes last.
export function compareDecimals(a, b) {
  const [first, second] = [Number(a ?? NaN), Number(b ?? NaN)];
  if (Number.isNaN(first) || Number.isNaN(second)) return Number.isNaN(first) - Number.isNaN(second);
  if (first !== second) return first < second ? -1 : 1;
  const [one, other] = [DECIMAL.exec(a), DECIMAL.exec(b)];
  if (a === b || one === null || other === null) return 0;
  const places = Math.max(...[one, other].map(([, , , rest = "."]) => rest.length - 1));
  const [x, y] = [one, other].map(([, minus, whole, rest = "."]) => {
    const units = BigInt(whole + rest.slice(1).padEnd(places, "0"));
    return minus ? -units : units;
  });
  return x < y ? -1 : x > y ? 1 : 0;
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

// The time of day, with the day where it is not today. `exchange` is whose time it is, where it is
// anybody's: then it says its zone, since its neighbours may have another one.
export function time(instant, now = Date.now(), exchange = undefined) {
  const date = new Date(instant);
  if (instant == null || Number.isNaN(date.getTime())) return "–";
  const { clock, named, day } = formatsOf(zoneOf(exchange));
  const words = (shown === "exchange" && exchange !== undefined ? named : clock).format(date);
  const dayWords = day.format(date);
  return dayWords === day.format(now) ? words : `${dayWords} ${words}`;
}

// When the day of an instant began, in the zone that is shown; with several, by UTC.
export function dayStart(instant) {
  return shown === "local" ? new Date(instant).setHours(0, 0, 0, 0) : Math.floor(instant / DAY_MS) * DAY_MS;
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

export function bytes(number) {
  if (number < 1024) return `${Math.round(number)} B`;
  const power = Math.min(3, Math.floor(Math.log2(number) / 10));
  return `${(number / 2 ** (10 * power)).toFixed(1)} ${["", "KiB", "MiB", "GiB"][power]}`;
}

const counted = new Intl.NumberFormat(LANGUAGE);

export function count(number) {
  return counted.format(number);
}

const QUOTES = [
  "FDUSD", "USDT", "USDC", "BUSD", "TUSD", "USDD", "DAI", "USD", "EUR", "GBP", "JPY", "CHF", "AUD", "CAD", "TRY",
  "BRL", "BTC", "XBT", "ETH", "BNB",
];
const BASES = new Set(
  ("BTC XBT ETH BNB SOL XRP ADA DOGE DOT LTC AVAX LINK MATIC POL TRX ATOM BCH XLM ETC FIL UNI EOS XMR NEAR APT ARB OP " +
    "SUI SHIB PEPE AAVE ALGO ICP HBAR TON INJ").split(" "),
);

const MOST_QUOTES = 5000;
const quotes = new Map(); // symbol -> what was found

// What a symbol is quoted in; null where it does not say for sure. BTCUSDT, BTC/USDT, BTC/USDT:USDT.
export function quoteOf(symbol) {
  let found = quotes.get(symbol);
  if (found === undefined) {
    if (quotes.size >= MOST_QUOTES) quotes.clear();
    quotes.set(symbol, (found = quoteIn(symbol)));
  }
  return found;
}

function quoteIn(symbol) {
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
