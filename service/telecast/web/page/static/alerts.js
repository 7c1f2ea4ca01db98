// Alerts that somebody has to see: which nobody has taken, how that is made known, and how they are
// acknowledged. What is shown at once is corrected by the event that follows.

import { SEVERITY, taken, whom } from "./channels.js";
import { button, find, make, say, set } from "./dom.js";
import { time } from "./format.js";
import { T } from "./texts.js";

const ICON = "page/icon.svg";

export class Alerts {
  #pending = new Map(); // alert -> {undo}: sent, and not seen in an event yet
  #away = ""; // the state's word while nothing gets through
  #sound = null;
  #dialogFor = null;

  // `rows()` are the alerts; `act(id, {note, undo})` sends; `speaks()` says whether this tab is the
  // one that makes noise; `traderName(id)` is a name, or undefined where none is visible.
  constructor({ rows, act, mayOperate, prefs, speaks, changed, traderName }) {
    Object.assign(this, { rows, act, mayOperate, prefs, speaks, changed, traderName });
    const dialog = find("take");
    dialog.querySelector("form").addEventListener("submit", (event) => {
      event.preventDefault();
      const note = find("take-note").value.trim();
      dialog.close();
      this.#send(this.#dialogFor, { note });
    });
    find("take-cancel").addEventListener("click", () => dialog.close());
    find("critical-take").addEventListener("click", () => this.take());
  }

  // Those that nobody has taken as far as the service says, the worst and newest first: [key, row].
  untaken() {
    return [...this.rows()]
      .map(([key, { data }]) => [key, data])
      .filter(([, row]) => !taken(row))
      .sort(([, a], [, b]) => (SEVERITY[a.severity] ?? 9) - (SEVERITY[b.severity] ?? 9) || Date.parse(b.createdAt) - Date.parse(a.createdAt));
  }

  #looksTaken(key, row) {
    const pending = this.#pending.get(key);
    return pending === undefined ? taken(row) : !pending.undo;
  }

  // Called for each event before it is folded; `live` says that it is news.
  observe({ key, op, data }, live) {
    this.#pending.delete(key);
    const before = this.rows().get(key)?.data;
    const rose = before !== undefined && (SEVERITY[data.severity] ?? 9) < (SEVERITY[before.severity] ?? 9);
    const news = before === undefined || rose || (taken(before) && !taken(data));
    if (!live || op !== "upsert" || taken(data) || !news) return;
    const text = T.announceAlert(data.severity, data.message);
    if (data.severity !== "INFO") say(text, { urgent: data.severity === "CRITICAL", shown: false });
    if (!this.speaks()) return;
    if (this.prefs.get("sound") && data.severity !== "INFO") this.#beep(data.severity === "CRITICAL" ? 3 : 1);
    if (this.prefs.get("notify") && globalThis.Notification?.permission === "granted") {
      new Notification(T.notifications.title(data.severity), { body: data.message, tag: key, icon: ICON });
    }
  }

  // Asks the browser where it has to be asked; resolves to whether it is on.
  async allowNotifications() {
    const answer = await globalThis.Notification?.requestPermission();
    if (answer !== "granted") say(T.notifications.refused, { urgent: true });
    return answer === "granted";
  }

  #beep(times) {
    this.#sound ??= new AudioContext();
    for (let index = 0; index < times; index++) {
      const at = this.#sound.currentTime + index * 0.25;
      const tone = this.#sound.createOscillator();
      const gain = this.#sound.createGain();
      tone.frequency.value = 740;
      gain.gain.setValueAtTime(0.12, at);
      gain.gain.exponentialRampToValueAtTime(0.001, at + 0.2);
      tone.connect(gain).connect(this.#sound.destination);
      tone.start(at);
      tone.stop(at + 0.22);
    }
  }

  // --- taking them

  // Asks for a note, then sends; without a key the worst that nobody is taking.
  take(key = this.untaken().find(([each]) => !this.#pending.has(each))?.[0]) {
    const row = this.rows().get(key)?.data;
    if (row === undefined || this.#looksTaken(key, row)) return say(T.noAlert);
    if (!this.mayOperate) return say(T.mayNotOperate, { urgent: true });
    this.#dialogFor = key;
    set(find("take-what"), T.announceAlert(row.severity, row.message));
    find("take-note").value = "";
    find("take").showModal();
    return undefined;
  }

  async #send(key, { note = "", undo = false }) {
    this.#pending.set(key, { undo });
    this.changed(key);
    try {
      await this.act(key, { note, undo });
    } catch (fault) {
      say(T.notAcknowledged(fault.message), { urgent: true });
      this.#pending.delete(key);
      this.changed(key);
    }
  }

  // --- the cell of the table

  button() {
    return make("span", "act-box");
  }

  fill(element, row, key) {
    const pending = this.#pending.has(key);
    const isTaken = this.#looksTaken(key, row);
    const state = `${pending && this.#away} ${pending} ${isTaken} ${row.acknowledgedBy} ${row.acknowledgedAt}`;
    if (element.dataset.state === state) return;
    element.dataset.state = state;
    const parts = [];
    if (pending) parts.push(make("span", "sub", this.#away ? T.notSentYet(this.#away) : T.acknowledging));
    else if (isTaken) parts.push(make("span", "sub", T.acknowledged(row.acknowledgedBy ?? "", time(row.acknowledgedAt))));
    if (!pending && this.mayOperate) {
      parts.push(isTaken ? button(T.undo, () => this.#send(key, { undo: true })) : button(T.acknowledge, () => this.take(key), "take"));
    }
    element.replaceChildren(...parts);
  }

  // --- the bar, the tab's title and icon

  // `away` is the word of a state in which nothing gets through, else empty.
  render(title, away) {
    if (away !== this.#away) {
      this.#away = away;
      for (const key of this.#pending.keys()) this.changed(key);
    }
    const untaken = this.untaken();
    const critical = untaken.filter(([, { severity }]) => severity === "CRITICAL");
    find("critical").hidden = critical.length === 0;
    if (critical.length) {
      const [key, row] = critical.find(([each]) => !this.#pending.has(each)) ?? critical[0];
      set(find("critical-text"), T.criticalBar(whom(row, this), row.message, critical.length - 1));
      find("critical-take").hidden = !this.mayOperate || this.#pending.has(key);
    }
    document.title = untaken.length ? `(${untaken.length}) ${title}` : title;
    const icon = find("icon");
    const href = critical.length ? badge() : ICON;
    if (icon.getAttribute("href") !== href) icon.setAttribute("href", href);
    const sending = untaken.filter(([key]) => this.#pending.has(key)).length;
    return { untaken: untaken.length, critical: critical.length, sending };
  }
}

function badge() {
  const svg = "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 32 32'><rect width='32' height='32' rx='7' fill='#b3261e'/>" +
    "<rect x='14' y='6' width='4' height='13' rx='2' fill='#fff'/><circle cx='16' cy='25' r='2.6' fill='#fff'/></svg>";
  return `data:image/svg+xml,${encodeURIComponent(svg)}`;
}
