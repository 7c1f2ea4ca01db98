// Keys for those who do not want the mouse. None works while somebody types.

import { find, make } from "./dom.js";
import { T } from "./texts.js";

const PLACES = {
  p: "positions", a: "risk-alerts", t: "trader-status", m: "market-data", c: "charts", r: "raw", o: "operator", d: "debug",
};
const CHORD_MS = 4000;

export function listenToKeys({ layout, search, acknowledge, clear }) {
  let chordAt = 0;
  const help = find("help");
  find("help-list").replaceChildren(
    ...T.help.keys.flatMap(([keys, what]) => {
      const dt = make("dt");
      dt.append(...keys.split(" ").flatMap((key, index) => (index ? [" ", make("kbd", "", key)] : [make("kbd", "", key)])));
      return [dt, make("dd", "", what)];
    }),
  );
  find("help-open").addEventListener("click", () => help.showModal());
  find("help-close").addEventListener("click", () => help.close());

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    const typing = event.target.closest?.("input, select, textarea");
    if (event.key === "Escape") {
      if (document.querySelector("dialog[open]")) return; // it closes itself
      if (layout.restore()) return;
      clear();
      return;
    }
    if (typing || document.querySelector("dialog[open]")) return;
    if (Date.now() - chordAt < CHORD_MS && PLACES[event.key]) {
      chordAt = 0;
      event.preventDefault();
      layout.go(PLACES[event.key]);
      return;
    }
    chordAt = 0;
    const acts = {
      "/": () => search.focus(),
      "?": () => help.showModal(),
      g: () => (chordAt = Date.now()),
      a: acknowledge,
      m: () => layout.focused && layout.maximise(layout.focused),
    };
    if (!Object.hasOwn(acts, event.key)) return;
    event.preventDefault();
    acts[event.key]();
  });
}
