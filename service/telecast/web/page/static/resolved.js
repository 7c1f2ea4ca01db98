// The alerts of the day that are resolved. Their rows are gone: they come from the history, and from
// the stream as they end. One that ended twice today stands here twice.

import { States } from "../client/telecast.js";
import { button, make, set } from "./dom.js";
import { dayStart } from "./format.js";
import { T } from "./texts.js";

const MOST = 2000; // the newest are kept
const PAGE = 1000;
const AGAIN_MS = 5000;
const PHASES = Object.freeze({ EMPTY: "empty", LOADING: "loading", WHOLE: "whole", FAILED: "failed" });

export class Resolved {
  rows = new Map(); // seq as text -> {key, seq, at, data}
  #phase = PHASES.EMPTY;
  #round = 0; // a fill that another one has overtaken says nothing
  #triedAt = 0;
  #day = 0;
  #left = false; // more ended today than are kept
  #fault = "";

  // `panel` is that of the alerts; `table` shows `rows`; `history(after)` asks for a page of events.
  constructor({ panel, table, prefs, history, changed }) {
    Object.assign(this, { table, prefs, history, changed });
    this.switch = button(T.resolved.show, () => prefs.set("resolved", !prefs.get("resolved")));
    this.switch.id = "resolved-show";
    panel.tools.prepend(this.switch);
    this.box = panel.body.appendChild(make("div", "resolved"));
    this.title = this.box.appendChild(make("h3", "", T.resolved.title));
    this.title.id = `${table.id}-title`;
    this.note = this.box.appendChild(make("p", "quiet resolved-note"));
    this.box.append(table.element);
  }

  get shown() {
    return this.prefs.get("resolved");
  }

  observe({ key, op, seq, data, timestamp }) {
    if (op !== "delete" || data.status !== "RESOLVED" || timestamp < this.#day) return;
    this.rows.set(String(seq), { key, seq, at: timestamp, data: { ...data, resolvedAt: timestamp } });
    if (this.rows.size > 2 * MOST) this.#trim();
    this.table.follow(this.rows, null);
  }

  #trim() {
    const newest = [...this.rows].sort(([, a], [, b]) => b.seq - a.seq);
    this.#left = true;
    this.rows = new Map(newest.slice(0, MOST));
    this.table.follow(this.rows, null);
  }

  // What ended while we were not looking is not known: it is asked for anew.
  doubt() {
    this.#round++;
    this.#phase = PHASES.EMPTY;
    this.#triedAt = 0;
  }

  // Other rows are wanted, or the key may not see these any more.
  forget() {
    this.doubt();
    this.rows.clear();
    this.#left = false;
    this.table.follow(this.rows, null);
  }

  async #fill(now) {
    const round = ++this.#round;
    this.#phase = PHASES.LOADING;
    this.#triedAt = now;
    try {
      let after = new Date(this.#day).toISOString();
      for (let more = true; more; ) {
        const found = await this.history({ after, limit: PAGE });
        if (round !== this.#round) return;
        for (const event of found.events) this.observe(event);
        ({ more, position: after } = found);
      }
      this.#phase = PHASES.WHOLE;
    } catch (fault) {
      if (round !== this.#round) return;
      this.#phase = PHASES.FAILED;
      this.#fault = fault.message;
    }
    this.changed();
  }

  // `state` is the freshness of the alerts; `now` is by the service's clock.
  render({ state, now, offset }) {
    const day = dayStart(now + offset);
    if (day !== this.#day) {
      this.#day = day;
      this.forget();
    }
    if (state.state === States.NOT_VISIBLE && this.rows.size) this.forget();
    this.box.hidden = !this.shown;
    this.switch.setAttribute("aria-pressed", String(this.shown));
    if (!this.shown) return;
    const live = state.state === States.LIVE || state.state === States.EMPTY;
    const due = this.#phase === PHASES.EMPTY || (this.#phase === PHASES.FAILED && now - this.#triedAt >= AGAIN_MS);
    if (live && due) this.#fill(now);
    if (this.rows.size > MOST) this.#trim();
    const known = this.#phase === PHASES.WHOLE;
    const notes = { [PHASES.LOADING]: T.loading, [PHASES.FAILED]: T.detail.failed(this.#fault) };
    set(this.note, known && this.#left ? T.resolved.left(MOST) : notes[this.#phase] ?? "");
    this.note.hidden = !this.note.textContent;
    this.table.element.hidden = this.#phase === PHASES.FAILED && this.rows.size === 0;
    const sure = known || state.state === States.NOT_VISIBLE;
    this.table.render({ state: sure ? state : { state: States.LOADING }, staleAfter: null, now, offset });
  }
}
