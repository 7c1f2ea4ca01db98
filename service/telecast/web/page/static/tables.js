// The tables of the desk: one for each channel, and one for the alerts that were resolved today.

import { KNOWN, RESOLVED_VIEW, VIEWS, genericView } from "./channels.js";
import { columnChoice, groupChoice } from "./choices.js";
import { set } from "./dom.js";
import { count } from "./format.js";
import { Resolved } from "./resolved.js";
import { Table } from "./table.js";

export class Tables {
  #tables = new Map(); // channel -> Table

  // `context` is what cells know beside their row; `open(channel, key, ended)` shows all about one;
  // `history(channel, page)` asks for events; `titleOf(channel)` names a panel.
  constructor({ layout, prefs, rows, context, open, history, titleOf, changed }) {
    Object.assign(this, { layout, prefs, rows, context, open, titleOf, changed });
    for (const channel of KNOWN) this.#add(channel, VIEWS[channel]);
    this.resolved = this.#addResolved(history);
  }

  #add(channel, view) {
    const panel = this.layout.add(channel, this.titleOf(channel));
    const table = new Table({
      id: channel, view, prefs: this.prefs, context: this.context, open: (key) => this.open(channel, key),
      changed: this.changed,
    });
    panel.body.append(table.element);
    this.#tables.set(channel, table);
    if (view.groups) groupChoice(panel, table, view, this.prefs);
    columnChoice(panel, table, view, this.prefs, () => this.changed());
  }

  #addResolved(history) {
    const table = new Table({
      id: "resolved", view: RESOLVED_VIEW, prefs: this.prefs, context: this.context,
      open: (seq) => {
        const row = this.resolved.rows.get(seq);
        this.open("risk-alerts", row.key, row);
      },
      changed: this.changed,
    });
    return new Resolved({
      panel: this.layout.panels.get("risk-alerts"), table, prefs: this.prefs, changed: () => this.changed(),
      history: (page) => history("risk-alerts", page),
    });
  }

  // A channel that the catalogue names: it gets a table made from its schema. Whether it is new.
  know({ name, schema }) {
    if (this.#tables.has(name)) return false;
    this.#add(name, genericView(schema));
    this.#tables.get(name).follow(this.rows.of(name), null);
    return true;
  }

  get channels() {
    return [...this.#tables.keys()];
  }

  get(channel) {
    return this.#tables.get(channel);
  }

  // Every row is drawn anew, with the columns that there are now.
  refill() {
    for (const [channel, table] of this.#tables) {
      table.columnsChanged();
      table.follow(this.rows.of(channel), null);
    }
    this.resolved.table.columnsChanged();
  }

  search(text) {
    for (const table of [...this.#tables.values(), this.resolved.table]) table.search(text);
  }

  // `states` has the freshness of each channel; `about(channel)` is {staleAfter, now, offset}.
  render(states, dirty, about) {
    for (const [channel, table] of this.#tables) {
      const state = states.get(channel);
      const rows = this.rows.of(channel);
      if (dirty.has(channel)) table.follow(rows, dirty.get(channel));
      const panel = this.layout.panels.get(channel);
      panel.state(state, about(channel).now);
      set(panel.count, rows.size ? count(rows.size) : "");
      if (!panel.section.hidden) table.render({ state, ...about(channel), left: this.rows.left.get(channel) ?? 0 });
    }
    this.resolved.render({ state: states.get("risk-alerts"), ...about("risk-alerts") });
  }
}
