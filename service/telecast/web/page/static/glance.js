// The figures at the top. They are as fresh as the channel that they are made of, and look so.

import { AMBER_MS, RED_MS, States, delayOf } from "../client/telecast.js";
import { earnedIn } from "./channels.js";
import { find, set } from "./dom.js";
import { compareDecimals, count, decimal, milliseconds, shorten, span, toneOf } from "./format.js";
import { totalsInWords } from "./group.js";
import { draw, sparkline } from "./spark.js";
import { T } from "./texts.js";

export class Glance {
  // `rows` are the Rows of the page; `held()` is what the positions add up to.
  constructor(rows, held) {
    Object.assign(this, { rows, held });
    this.line = find("sum-rate-note").appendChild(sparkline());
  }

  // `states` has the freshness of each channel; `alerts` are {untaken, critical, sending}.
  sums(states, { untaken, critical, sending }) {
    const rows = (channel) => [...this.rows.of(channel).values()].map(({ data }) => data);
    const known = (channel) => this.rows.whole.has(channel) && states.get(channel).state !== States.NOT_VISIBLE;
    for (const [tile, channel] of [["pnl", "positions"], ["traders", "trader-status"], ["alerts", "risk-alerts"]]) {
      find(`sum-${tile}`).parentElement.dataset.state = states.get(channel).state;
    }
    const word = (channel) => T.panelWords[states.get(channel).state] ?? "";
    const held = this.held();
    const added = known("positions") && held.known;
    const [first, ...rest] = held.totals.sort(([, a], [, b]) => Math.abs(b) - Math.abs(a));
    set(find("sum-pnl"), added && first ? totalsInWords([first]) : "–");
    find("sum-pnl").dataset.tone = added && first ? toneOf(first[1]) : "";
    const others = totalsInWords(rest);
    const many = held.count ? T.sums.positions(held.count) : T.sums.noPositions;
    set(find("sum-pnl-note"), added ? [others, many].filter(Boolean).join(" · ") : known("positions") ? "" : word("positions"));
    const traders = rows("trader-status");
    const errors = traders.filter(({ status }) => status === "ERROR").length;
    const running = traders.filter(({ status }) => status === "RUNNING").length;
    set(find("sum-traders"), known("trader-status") ? count(running) : "–");
    const about = [T.sums.running(count(traders.length)), errors ? T.sums.errors(errors) : ""].filter(Boolean).join(", ");
    set(find("sum-traders-note"), known("trader-status") ? about : word("trader-status"));
    find("sum-traders-note").dataset.tone = errors ? "loss" : "";
    set(find("sum-traders-worst"), known("trader-status") ? worstInWords(traders) : "");
    set(find("sum-alerts"), known("risk-alerts") ? count(this.rows.of("risk-alerts").size) : "–");
    find("sum-alerts").dataset.tone = critical ? "loss" : "";
    const seen = untaken ? T.unseen(untaken, critical, sending) : T.allTaken;
    set(find("sum-alerts-note"), known("risk-alerts") ? seen : word("risk-alerts"));
  }

  // How fast events come, how late, and whether the clocks agree.
  pace({ rate, link, clock }, now) {
    const perSecond = rate.now(now);
    set(find("sum-rate"), perSecond >= 10 ? count(Math.round(perSecond)) : perSecond.toFixed(1));
    const second = Math.floor(now / 1000);
    if (this.line.dataset.second !== String(second)) {
      this.line.dataset.second = String(second);
      draw(this.line, rate.history(now), "calm", 0);
    }
    const { offset, doubt } = clock;
    const delay = delayOf(link, now);
    set(find("sum-lag"), delay === null || link.lag === null ? "–" : milliseconds(delay));
    find("sum-lag").dataset.tone = delay === null || delay <= AMBER_MS ? "" : delay <= RED_MS ? "late" : "loss";
    set(find("sum-lag-note"), doubt === null ? T.clocks.unknown : skewInWords(offset, doubt));
  }
}

// Who has lost most, in each currency: they are not compared with each other.
function worstInWords(traders) {
  const worst = new Map(); // currency -> trader
  for (const trader of traders) {
    const currency = earnedIn(trader) ?? "";
    const profit = trader.metrics?.netProfit;
    if (profit != null && !(compareDecimals(worst.get(currency)?.metrics.netProfit, profit) <= 0)) worst.set(currency, trader);
  }
  const losers = [...worst].filter(([, { metrics }]) => toneOf(metrics.netProfit) === "loss").sort(([a], [b]) => (a < b ? -1 : 1));
  if (!losers.length) return worst.size ? T.sums.noLoss : "";
  // Each of them stays in one line.
  const words = losers.map(([currency, { name, metrics }]) => `${name} ${decimal(shorten(metrics.netProfit, 2))} ${currency}`.trim().replaceAll(" ", "\u00a0"));
  return T.sums.worst(words.join(" · "));
}

function skewInWords(offset, doubt) {
  const sure = `${Math.max(1, Math.round(doubt))} ms`;
  if (Math.abs(offset) < 50) return T.clocks.agree(sure);
  return T.clocks.corrected(`${span(Math.abs(offset))} ${offset > 0 ? T.clocks.slow : T.clocks.fast}`, sure);
}
