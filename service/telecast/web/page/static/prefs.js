// How somebody wants their desk: kept in this browser, carried by a link. Nothing of it is secret.

import { KIOSK } from "./kiosk.js";

const STORE = "telecast desk 1";
const NARROW = 1180;
const WIDE = 2000;

// Twelfths of the width, and the height in px.
const DEFAULTS = {
  desk: {
    "risk-alerts": [4, 370], positions: [8, 370], "trader-status": [6, 380], "market-data": [6, 380],
    charts: [12, 300], raw: [12, 260], operator: [12, 760], debug: [12, 760],
  },
  wide: {
    "risk-alerts": [3, 620], positions: [6, 620], "trader-status": [3, 620], "market-data": [5, 520],
    charts: [4, 520], raw: [3, 520], operator: [12, 760], debug: [12, 760],
  },
};
const ORDER = ["positions", "risk-alerts", "trader-status", "market-data", "charts", "raw", "operator", "debug"];
const NARROW_ORDER = ["risk-alerts", "positions", "trader-status", "market-data", "charts", "raw", "operator", "debug"];
const SIZE = { w: [3, 12], h: [160, 1600] };

export function initial(width = innerWidth) {
  const sizes = width >= WIDE ? DEFAULTS.wide : DEFAULTS.desk;
  return {
    order: width < NARROW ? NARROW_ORDER : ORDER,
    sizes: structuredClone(sizes),
    hidden: ["operator", "debug"],
    density: "normal",
    theme: "auto", // auto, light, dark, contrast
    palette: "usual", // usual, safe: blue and orange instead of green and red
    zone: "local",
    sound: false,
    notify: false,
    resolved: false, // whether the alerts panel shows what was resolved today
    tables: {}, // panel -> {sort: [column, direction], hidden: [column], group, pinned: [key]}
    filter: {}, // field -> [value]
  };
}

export class Prefs {
  #listeners = [];

  constructor(storage = globalThis.localStorage) {
    this.storage = storage;
    this.values = { ...initial(), ...this.#read(), ...fromLink() };
  }

  get(name) {
    return this.values[name];
  }

  set(name, value) {
    this.values = { ...this.values, [name]: value };
    try {
      this.storage?.setItem(STORE, JSON.stringify(this.values));
    } catch {
      // private windows may refuse: then it holds as long as the tab
    }
    for (const listener of this.#listeners) listener(name);
  }

  onchange(listener) {
    this.#listeners.push(listener);
  }

  // The settings of one table, with what is new laid over.
  table(panel) {
    const { sort = null, hidden = null, group = "", pinned = [] } = Object(this.values.tables[panel]);
    const sorted = Array.isArray(sort) && typeof sort[0] === "string" && [1, -1].includes(sort[1]);
    return {
      sort: sorted ? sort : null, hidden: areTexts(hidden) ? hidden : null, group: String(group), pinned: areTexts(pinned) ? pinned : [],
    };
  }

  setTable(panel, more) {
    this.set("tables", { ...this.values.tables, [panel]: { ...this.table(panel), ...more } });
  }

  size(panel) {
    const [w, h] = this.values.sizes[panel] ?? [6, 330];
    return { w, h };
  }

  resize(panel, { w, h }) {
    const bounded = (value, [least, most]) => Math.round(Math.min(most, Math.max(least, value)));
    const now = this.size(panel);
    const next = [bounded(w ?? now.w, SIZE.w), bounded(h ?? now.h, SIZE.h)];
    this.set("sizes", { ...this.values.sizes, [panel]: next });
  }

  // A panel that nobody has placed yet stands at the end.
  place(panels) {
    const known = this.values.order.filter((panel) => panels.includes(panel));
    return [...known, ...panels.filter((panel) => !known.includes(panel))];
  }

  move(panel, steps, panels) {
    const order = this.place(panels);
    const visible = order.filter((each) => !this.values.hidden.includes(each));
    const target = visible[visible.indexOf(panel) + steps];
    if (target === undefined) return;
    const rest = order.filter((each) => each !== panel);
    rest.splice(rest.indexOf(target) + (steps > 0 ? 1 : 0), 0, panel);
    this.set("order", rest);
  }

  show(panel, shown) {
    const hidden = this.values.hidden.filter((each) => each !== panel);
    this.set("hidden", shown ? hidden : [...hidden, panel]);
  }

  reset() {
    const { sound, notify } = this.values;
    for (const [name, value] of Object.entries({ ...initial(), sound, notify })) this.set(name, value);
  }

  link() {
    const { sound, notify, ...shared } = this.values; // what makes noise is nobody else's to switch on
    const bytes = new TextEncoder().encode(JSON.stringify(shared));
    const text = btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
    return `${location.origin}${location.pathname}#desk=${text}`;
  }

  #read() {
    try {
      return checked(JSON.parse(this.storage?.getItem(STORE) ?? "{}"));
    } catch {
      return {};
    }
  }
}

// Only what has the shape that we write: a link may come from anybody.
export function checked(said) {
  const found = {};
  const usual = initial();
  for (const [name, value] of Object.entries(said ?? {})) {
    if (!Object.hasOwn(usual, name)) continue;
    if (Array.isArray(usual[name])) {
      if (areTexts(value)) found[name] = value;
    } else if (name === "sizes") {
      if (Object.values(value).every((each) => Array.isArray(each) && each.every(Number.isFinite))) found[name] = value;
    } else if (name === "filter") {
      if (Object.values(value).every(areTexts)) found[name] = value;
    } else if (typeof value === typeof usual[name] && value !== null) found[name] = value;
  }
  return found;
}

function areTexts(value) {
  return Array.isArray(value) && value.length < 100 && value.every((each) => typeof each === "string");
}

function fromLink() {
  const text = new URLSearchParams(location.hash.slice(1)).get("desk");
  if (text === null) return {};
  if (!KIOSK) history.replaceState(null, "", location.pathname + location.search); // a wall display reloads by itself
  try {
    const bytes = Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (each) => each.charCodeAt(0));
    const { sound, notify, ...shared } = checked(JSON.parse(new TextDecoder().decode(bytes)));
    return shared;
  } catch {
    return {};
  }
}
