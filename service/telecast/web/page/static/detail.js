// All about one row: every field, what changed last, the message as it came, its history.

import { button, find, make, set } from "./dom.js";
import { decimal, duration, time } from "./format.js";
import { RowHistory } from "./history.js";
import { T } from "./texts.js";

const D = T.detail;
const PERIOD = /^P(T?\d)/;
const FILTERS = ["traderId", "symbol", "exchange", "severity"];

// [path, value] of every field, nested ones too.
export function fieldsOf(row, prefix = "") {
  return Object.entries(row ?? {}).flatMap(([name, value]) => {
    const path = prefix ? `${prefix}.${name}` : name;
    if (value !== null && typeof value === "object" && Object.keys(value).length) return fieldsOf(value, path);
    return [[path, value === null || typeof value !== "object" ? value : ""]];
  });
}

// [path, before, now] of what differs.
export function difference(before, now) {
  const old = new Map(fieldsOf(before));
  const found = [];
  for (const [path, value] of fieldsOf(now)) {
    if (old.get(path) !== value) found.push([path, old.get(path), value]);
    old.delete(path);
  }
  for (const [path, value] of old) found.push([path, value, undefined]);
  return found;
}

export class Detail {
  #open = null; // {channel, key, ended, shown}

  // `pins(channel)` has `pinnable`, `isPinned(key)` and `togglePin(key)`.
  constructor({ client, row, title, nameOf, only, position, filtersOf, pins }) {
    Object.assign(this, { client, row, title, nameOf, only, position, filtersOf, pins });
    this.dialog = find("detail");
    find("detail-close").addEventListener("click", () => this.dialog.close());
    this.dialog.addEventListener("close", () => (this.#open = null));
    this.dialog.addEventListener("click", ({ target }) => {
      if (target === this.dialog) this.dialog.close(); // the backdrop
    });
  }

  // `ended` is the last state of a row that is gone.
  open(channel, key, ended = null) {
    this.#open = { channel, key, ended, shown: null };
    find("detail-history").replaceChildren(make("p", "quiet", D.loading));
    this.render();
    if (!this.dialog.open) this.dialog.showModal();
    this.#history(this.#open);
  }

  render() {
    if (this.#open === null) return;
    const { channel, key, ended } = this.#open;
    const held = ended === null ? this.row(channel, key) : undefined;
    const row = held ?? ended ?? undefined;
    find("detail-gone").hidden = held !== undefined;
    if (row === undefined || this.#open.shown === row) return;
    this.#open.shown = row;
    const name = this.nameOf(channel, row.data);
    set(find("detail-title"), `${this.title(channel)}: ${name && name !== key ? `${name} · ${key}` : key}`);
    set(find("detail-at"), `${time(row.at)} · ${D.position(row.seq)}`);
    find("detail-fields").replaceChildren(...lines(fieldsOf(row.data).map(([path, value]) => [path, shown(value)])));
    const { before, data } = row;
    const changed = before ? difference(before, data) : [];
    find("detail-changed").replaceChildren(
      ...(changed.length
        ? lines(changed.map(([path, old, value]) => [path, `${shown(old)} → ${shown(value)}`]))
        : [make("dt", "", "–"), make("dd", "quiet", before ? D.same : D.noChange)]),
    );
    set(find("detail-raw"), JSON.stringify({ channel, key, seq: row.seq, timestamp: row.at, data: row.data }, null, 2));
    const chips = FILTERS.filter((field) => typeof row.data[field] === "string").map((field) =>
      button(D.onlyThis(row.data[field]), () => {
        this.dialog.close();
        this.only(field, row.data[field]);
      }),
    );
    const table = this.pins(channel);
    if (held !== undefined && table?.pinnable) {
      const pin = button("", () => {
        table.togglePin(key);
        say();
      }, "pin");
      const say = () => set(pin, table.isPinned(key) ? D.unpin : D.pin);
      say();
      chips.unshift(pin);
    }
    find("detail-only").replaceChildren(...chips);
  }

  // The filters of the row make it few pages.
  async #history(open) {
    const { channel, key } = open;
    const position = this.position();
    if (position === null) return;
    const data = (this.row(channel, key) ?? open.ended)?.data ?? {};
    const filter = Object.fromEntries(
      this.filtersOf(channel).filter((field) => typeof data[field] === "string").map((field) => [field, data[field]]),
    );
    const ask = (page) => this.client.history(channel, { ...page, filter });
    const history = new RowHistory({ ask, key, head: position });
    await this.#earlier(open, history);
  }

  async #earlier(open, history) {
    const target = find("detail-history");
    const show = (...nodes) => this.#open === open && target.replaceChildren(...nodes);
    show(make("p", "quiet", D.loading));
    try {
      await history.earlier();
    } catch (fault) {
      return show(make("p", "fault", D.failed(fault.message)));
    }
    const list = make("ol", "history");
    const { events, whole, trimmed, since } = history;
    events.forEach((event, index) => {
      const changed = index ? difference(events[index - 1].data, event.data).filter(([path]) => path !== "updatedAt") : [];
      const li = make("li");
      const words = changed.map(([path, , value]) => `${path} ${shown(value)}`).join(", ");
      li.append(make("span", "at", time(event.timestamp)), make("span", "op", event.op), make("span", "", words));
      list.prepend(li);
    });
    const from = since === null ? "" : time(since);
    const note = whole ? (trimmed && since !== null ? D.trimmed(from) : D.whole) : events.length ? D.since(from) : D.noneYet(from);
    const foot = make("p", "quiet", whole && !events.length ? D.none : note);
    if (!whole) foot.append(" ", button(D.earlier, () => this.#earlier(open, history), "earlier"));
    return show(...(events.length ? [list] : []), foot);
  }
}

function lines(entries) {
  return entries.flatMap(([path, text]) => [make("dt", "", path), make("dd", "", text)]);
}

function shown(value) {
  if (value === null || value === undefined || value === "") return "–";
  if (typeof value !== "string") return String(value);
  return PERIOD.test(value) ? `${duration(value)} (${value})` : decimal(value);
}
