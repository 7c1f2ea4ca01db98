// How each channel is shown. A dashboard that grows adds columns, or a channel, here.

import { decimal, percent, shorten, time, toneOf } from "./format.js";
import { Trails, draw, sparkline } from "./spark.js";

export const trails = new Trails();
const directions = new Map(); // instrument -> {price, tone}: which way the last change went

const STATUS_TONE = {
  RUNNING: "good", STARTING: "busy", STOPPING: "busy", PAUSED: "warn", ERROR: "bad",
};
const SEVERITY = { CRITICAL: 0, WARNING: 1, INFO: 2 };
const SEVERITY_TONE = { CRITICAL: "bad", WARNING: "warn", INFO: "calm" };

export const VIEWS = {
  positions: {
    title: "Positions",
    empty: "No open positions.",
    sort: (row, key) => [row.symbol, row.traderName ?? row.traderId, key],
    columns: [
      { title: "Symbol", name: "first", cell: (row) => ({ text: row.symbol, sub: row.traderName ?? row.traderId }) },
      { title: "Side", cell: (row) => ({ text: row.action, tone: row.action === "LONG" ? "long" : "short", chip: true }) },
      { title: "Quantity", numeric: true, wide: true, cell: (row) => ({ text: decimal(row.quantity) }) },
      { title: "Entry", numeric: true, wide: true, cell: (row) => ({ text: decimal(row.entryPrice) }) },
      { title: "Price", numeric: true, cell: (row) => ({ text: decimal(row.currentPrice) }) },
      {
        title: "P&L", numeric: true,
        cell: (row) => ({
          text: decimal(shorten(row.unrealizedPnL, 2), { signed: true }),
          tone: toneOf(row.unrealizedPnL), title: row.unrealizedPnL,
        }),
      },
      { title: "Stop", numeric: true, wide: true, cell: (row) => ({ text: decimal(row.stopLossPrice) }) },
      { title: "Updated", numeric: true, wide: true, cell: (row) => ({ text: time(row.updatedAt), tone: "faint" }) },
    ],
  },
  "risk-alerts": {
    title: "Risk alerts",
    empty: "No alerts. All is calm.",
    sort: (row, key) => [SEVERITY[row.severity] ?? 9, -Date.parse(row.createdAt), key],
    columns: [
      {
        title: "Severity",
        cell: (row) => ({ text: row.severity, tone: SEVERITY_TONE[row.severity] ?? "", chip: true }),
      },
      { title: "Alert", name: "first words", cell: (row) => ({ text: row.message, sub: aboutAlert(row) }) },
      { title: "Since", numeric: true, cell: (row) => ({ text: time(row.createdAt), tone: "faint" }) },
    ],
  },
  "trader-status": {
    title: "Traders",
    empty: "No traders.",
    sort: (row, key) => [row.name, key],
    columns: [
      { title: "Trader", name: "first", cell: (row) => ({ text: row.name, sub: row.strategy ?? row.symbol ?? "" }) },
      {
        title: "Status",
        cell: (row) => ({
          text: row.status, tone: STATUS_TONE[row.status] ?? "calm", chip: true, title: row.reason ?? "",
        }),
      },
      {
        title: "Net profit", numeric: true,
        cell: ({ metrics }) => ({
          text: metrics ? decimal(shorten(metrics.netProfit, 2), { signed: true }) : "–",
          tone: toneOf(metrics?.netProfit),
        }),
      },
      {
        title: "Won", numeric: true, wide: true,
        cell: ({ metrics }) => ({ text: metrics ? percent(metrics.winRate, { places: 0 }) : "–" }),
      },
      {
        title: "Trades", numeric: true, wide: true,
        cell: ({ metrics }) => ({ text: metrics ? String(metrics.totalTrades) : "–" }),
      },
    ],
  },
  "market-data": {
    title: "Market data",
    empty: "No prices yet.",
    sort: (row, key) => [row.symbol, row.exchange ?? "", key],
    columns: [
      { title: "Instrument", name: "first", cell: (row) => ({ text: row.symbol, sub: row.exchange ?? row.source }) },
      { title: "Price", numeric: true, cell: (row, key) => ({ text: decimal(row.price), tone: directions.get(key)?.tone ?? "" }) },
      { title: "Bid", numeric: true, wide: true, cell: (row) => ({ text: decimal(row.bid) }) },
      { title: "Ask", numeric: true, wide: true, cell: (row) => ({ text: decimal(row.ask) }) },
      {
        title: "24 h", numeric: true,
        cell: (row) => {
          const text = percent(row.change24h, { signed: true });
          return { text, tone: toneOf(text.replace("%", "")) };
        },
      },
      {
        title: "Trail", name: "trail", create: sparkline,
        update: (svg, row, key) => {
          const values = trails.of(key);
          draw(svg, values, values.length > 1 && values.at(-1) < values[0] ? "loss" : "gain");
        },
      },
    ],
  },
};

export const CHANNELS = Object.keys(VIEWS);

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

function aboutAlert(row) {
  const parts = [row.traderId ?? "all traders"];
  if (row.recommendation) parts.push(row.recommendation.toLowerCase().replace("_", " "));
  if (row.status !== "ACTIVE") parts.push(row.status.toLowerCase());
  if (row.count > 1) parts.push(`${row.count}\u00d7`);
  return parts.join(" · ");
}
