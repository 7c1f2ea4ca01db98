// How each channel is shown. A dashboard that grows adds columns, or a channel, here.

import { compareDecimals, decimal, duration, percent, quoteOf, shorten, time, toneOf } from "./format.js";
import { Trails, draw, sparkline } from "./spark.js";
import { currencyOf } from "./tally.js";
import { T } from "./texts.js";

export const trails = new Trails();
const directions = new Map(); // instrument -> {price, tone}: which way the last change went
const C = T.columns;

const STATUS_TONE = {
  RUNNING: "good", STARTING: "busy", STOPPING: "busy", PAUSED: "warn", ERROR: "bad",
};
const STATUS_ORDER = { ERROR: 0, PAUSED: 1, STOPPING: 2, STARTING: 3, RUNNING: 4 };
export const SEVERITY = { CRITICAL: 0, WARNING: 1, INFO: 2 };
const SEVERITY_TONE = { CRITICAL: "bad", WARNING: "warn", INFO: "calm" };

// A column: {id, title, cell(row, key, context), value(row)}; `value` is what it is sorted by, and
// `compare` how; `part` keeps apart what can't be compared, such as currencies; `hint` is its title's tooltip. `numeric`: right-aligned; `wide`, then `mid`: left out where there is little room;
// `extra`: only shown when it is chosen.
const money = (id, title, field, more = {}) => ({
  id, title, numeric: true, value: (row) => row[field], compare: compareDecimals,
  cell: (row) => ({ text: decimal(row[field]) }), ...more,
});
const instant = (id, title, field, more = {}) => ({
  id, title, numeric: true, value: (row) => Date.parse(row[field] ?? "") || 0,
  cell: (row) => ({ text: time(row[field], Date.now(), row.exchange ?? null), tone: "faint" }), ...more,
});
const plain = (id, title, field, more = {}) => ({
  id, title, value: (row) => row[field] ?? "", cell: (row) => ({ text: row[field] ?? "–" }), ...more,
});
const signedMoney = (text, full = text) => ({
  text: decimal(shorten(text, 2), { signed: true }), tone: toneOf(full), title: full ?? "",
});
const inCurrency = (currency, cell) => ({ ...cell, sub: cell.text === "–" ? "" : currency ?? "" });
const heldIn = { field: "unrealizedPnL", currency: (row) => quoteOf(row.symbol) };
const earnedPart = (row) => earnedIn(row) ?? T.unknownQuote;
const metric = (id, title, field, show, more = {}) => ({
  id, title, numeric: true, value: ({ metrics }) => metrics?.[field] ?? null, compare: compareDecimals,
  cell: (row) => (row.metrics?.[field] == null ? { text: "–" } : show(row.metrics[field], row)), ...more,
});

// A place in the order as one text: it compares quicker than a list. No text has a NUL in it.
const placed = (...texts) => texts.join("\0");

const severity = {
  id: "severity", title: C.severity, value: (row) => SEVERITY[row.severity] ?? 9,
  cell: (row) => ({ text: row.severity, tone: SEVERITY_TONE[row.severity] ?? "", chip: true }),
};
const alertWords = {
  id: "alert", title: C.alert, name: "first words", value: (row) => row.message,
  cell: (row, key, context) => ({ text: row.message, sub: aboutAlert(row, context), more: violations(row) }),
};

export const VIEWS = {
  positions: {
    also: holder,
    nameOf: (row, context) => `${row.symbol} · ${holder(row, context)}`,
    sort: (row, key, context) => placed(row.symbol, holder(row, context), key),
    groups: {
      trader: holder, symbol: (row) => row.symbol,
      exchange: (row) => row.exchange ?? T.none, quote: (row) => quoteOf(row.symbol) ?? T.unknownQuote,
    },
    // What is added up, and in which currency: only the same are ever added.
    total: heldIn,
    columns: [
      {
        id: "symbol", title: C.symbol, name: "first", value: (row) => row.symbol,
        cell: (row, key, context) => ({ text: row.symbol, sub: holder(row, context) }),
      },
      {
        id: "side", title: C.side, value: (row) => row.action,
        cell: (row) => ({ text: row.action, tone: row.action === "LONG" ? "long" : "short", chip: true }),
      },
      money("quantity", C.quantity, "quantity", { wide: true }),
      money("entry", C.entry, "entryPrice", { wide: true }),
      money("price", C.price, "currentPrice"),
      money("pnl", C.pnl, "unrealizedPnL", {
        part: (row) => currencyOf(row, heldIn), cell: (row) => inCurrency(quoteOf(row.symbol), signedMoney(row.unrealizedPnL)),
      }),
      money("stop", C.stop, "stopLossPrice", { wide: true }),
      plain("exchange", C.exchange, "exchange", { extra: true }),
      money("leverage", C.leverage, "leverage", { extra: true }),
      instant("opened", C.opened, "openedAt", { extra: true }),
      instant("updated", C.updated, "updatedAt", { wide: true }),
    ],
  },
  "risk-alerts": {
    flow: true,
    also: (row, context) => context.traderName(row.traderId) ?? "",
    nameOf: whom,
    sort: (row, key) => [taken(row) ? 1 : 0, SEVERITY[row.severity] ?? 9, -Date.parse(row.createdAt), key],
    columns: [
      severity,
      alertWords,
      instant("since", C.since, "createdAt", { mid: true }),
      {
        id: "act", title: C.act, name: "act", value: (row) => (taken(row) ? row.acknowledgedBy ?? "" : ""),
        create: (context, key) => context.alerts.button(key), update: (element, row, key, context) => context.alerts.fill(element, row, key),
      },
    ],
  },
  "trader-status": {
    nameOf: (row) => row.name,
    sort: (row, key) => [STATUS_ORDER[row.status] ?? 5, row.name, key],
    columns: [
      {
        id: "trader", title: C.trader, name: "first", value: (row) => row.name,
        cell: (row) => ({ text: row.name, sub: [row.strategy, row.symbol].filter(Boolean).join(" · ") }),
      },
      {
        id: "status", title: C.status, name: "status", value: (row) => STATUS_ORDER[row.status] ?? 5,
        cell: (row) => ({
          text: row.status, tone: STATUS_TONE[row.status] ?? "calm", chip: true, sub: row.reason ?? "", title: row.reason ?? "",
        }),
      },
      {
        id: "positions", title: C.positions, numeric: true, mid: true, compare: compareDecimals,
        value: (row, key, context) => context.holdings.countOf(key), create: (context, key) => context.holdings.button(key),
        update: (element, row, key, context) => context.holdings.fill(element, row.name, key),
      },
      metric("profit", C.profit, "netProfit", (text, row) => inCurrency(earnedIn(row), signedMoney(text)), { part: earnedPart, hint: T.hints.profit }),
      metric("drawdown", C.drawdown, "maxDrawdown", (text, row) => inCurrency(earnedIn(row), { text: decimal(shorten(text, 2)), title: text }), { mid: true, part: earnedPart, hint: T.hints.drawdown }),
      metric("won", C.won, "winRate", (ratio) => ({ text: percent(ratio, { places: 0 }) }), { mid: true }),
      metric("sharpe", C.sharpe, "sharpeRatio", (ratio) => ({ text: ratio.toFixed(2) }), { wide: true }),
      metric("trades", C.trades, "totalTrades", (total) => ({ text: String(total) }), { wide: true }),
      {
        id: "line", title: C.line, name: "trail", wide: true, create: sparkline,
        update: (svg, row, key, context) => {
          const values = context.profitOf(key);
          draw(svg, values, values.length > 1 && values.at(-1) < values[0] ? "loss" : "gain");
        },
      },
      metric("uptime", C.uptime, "uptime", (text) => ({ text: duration(text) }), { extra: true }),
      {
        id: "signal", title: C.signal, wide: true, value: ({ metrics }) => Date.parse(metrics?.lastSignalTime ?? "") || 0,
        cell: ({ metrics }) => ({ text: metrics?.lastSignalAction ?? "–", sub: metrics?.lastSignalTime ? time(metrics.lastSignalTime) : "" }),
      },
    ],
  },
  "market-data": {
    sort: (row, key) => placed(row.symbol, row.exchange ?? "", key),
    columns: [
      {
        id: "instrument", title: C.instrument, name: "first", value: (row) => row.symbol,
        cell: (row) => ({ text: row.symbol, sub: row.exchange ?? row.source }),
      },
      money("price", C.price, "price", { cell: (row, key) => ({ text: decimal(row.price), tone: directions.get(key)?.tone ?? "" }) }),
      money("bid", C.bid, "bid", { wide: true }),
      money("ask", C.ask, "ask", { wide: true }),
      {
        id: "day", title: C.day, numeric: true, value: (row) => row.change24h, compare: compareDecimals,
        cell: (row) => {
          const text = percent(row.change24h, { signed: true });
          return { text, tone: toneOf(text.replace("%", "")) };
        },
      },
      instant("updated", C.updated, "updatedAt", { extra: true }),
      {
        id: "trail", title: C.trail, name: "trail", wide: true, create: sparkline,
        update: (svg, row, key) => {
          const values = trails.of(key);
          draw(svg, values, values.length > 1 && values.at(-1) < values[0] ? "loss" : "gain");
        },
      },
    ],
  },
};

// Alerts whose rows are gone; `resolvedAt` is the page's own word for when.
export const RESOLVED_VIEW = {
  flow: true,
  also: VIEWS["risk-alerts"].also,
  sort: (row, key) => [-row.resolvedAt, key],
  columns: [
    severity, alertWords, instant("since", C.since, "createdAt", { wide: true }),
    {
      id: "resolved", title: C.resolved, numeric: true, value: (row) => row.resolvedAt,
      cell: (row) => ({ text: time(row.resolvedAt), tone: "faint", sub: row.acknowledgedBy ? T.resolved.by(row.acknowledgedBy) : "" }),
    },
  ],
};

export const KNOWN = Object.keys(VIEWS);
const MOST_GENERIC_COLUMNS = 8;
const FEW_GENERIC_COLUMNS = 3; // the others go where there is little room
const DECIMAL = /^-?\d+(\.\d+)?$/;

// A view of any channel from the JSON Schema of its rows: a column for each plain field.
export function genericView(schema) {
  const fields = Object.entries(schema?.properties ?? {});
  const columns = fields
    .filter(([, rule]) => rule.type !== "object" && rule.type !== "array")
    .map(([field, rule], index) => {
      const type = [rule.type].flat();
      const date = rule.format === "date-time" || /At$/.test(field);
      if (date) return instant(field, field, field, { extra: index >= MOST_GENERIC_COLUMNS, wide: index >= FEW_GENERIC_COLUMNS });
      return {
        id: field, title: field, numeric: type.includes("number") || type.includes("integer"),
        name: index === 0 ? "first" : "", extra: index >= MOST_GENERIC_COLUMNS,
        wide: index >= FEW_GENERIC_COLUMNS, value: (row) => row[field] ?? "",
        compare: (a, b) => (DECIMAL.test(a) && DECIMAL.test(b) ? compareDecimals(String(a), String(b)) : a < b ? -1 : a > b ? 1 : 0),
        cell: (row) => ({ text: row[field] == null ? "–" : DECIMAL.test(row[field]) ? decimal(String(row[field])) : String(row[field]) }),
      };
    });
  if (!columns.length) columns.push({ id: "row", title: T.columns.key, name: "first words", value: (row) => JSON.stringify(row), cell: (row) => ({ text: JSON.stringify(row) }) });
  return { sort: (row, key) => key, columns };
}

// What a view keeps beside the rows: called for each event that was folded.
export function observe(event) {
  if (event.channel !== "market-data" || event.op !== "upsert") return;
  const price = Number(event.data.price);
  trails.add(event.key, price, event.timestamp);
  const before = directions.get(event.key);
  if (before === undefined) directions.set(event.key, { price, tone: "" });
  else if (price !== before.price) {
    before.tone = price > before.price ? "gain" : "loss";
    before.price = price;
  }
}

// Forget what belonged to rows that are gone.
export function tidy(rows) {
  trails.keep(rows);
  for (const key of directions.keys()) if (!rows.has(key)) directions.delete(key);
}

// What the profit of a trader is in; null: not known.
export function earnedIn({ symbol }) {
  return symbol ? quoteOf(symbol) ?? symbol : null;
}

// Whose a position is: the name that it says, or that the traders' rows say, else the id.
export function holder(row, context) {
  return row.traderName ?? context.traderName(row.traderId) ?? row.traderId;
}

// Whether an operator has seen it.
export function taken(alert) {
  return alert.status === "ACKNOWLEDGED";
}

// Whom an alert is about: the name that the traders' rows say, else the id.
export function whom(row, context) {
  return row.traderId == null ? T.allTraders : context.traderName(row.traderId) ?? row.traderId;
}

function aboutAlert(row, context) {
  const parts = [whom(row, context)];
  if (row.recommendation) parts.push(T.recommendation[row.recommendation] ?? row.recommendation);
  if (row.count > 1) parts.push(`${row.count}\u00d7`);
  if (row.note) parts.push(T.note(row.note));
  return parts.join(" · ");
}

function violations(row) {
  return (row.violations ?? [])
    .map(({ type, message }) => (message === row.message ? type : `${type}: ${message}`)).join("\n");
}
