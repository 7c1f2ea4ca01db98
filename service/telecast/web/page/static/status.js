// What the page says of itself: the word at the top, the tab's title, the notice, the foot.

import { States } from "../client/telecast.js";
import { find, make, set } from "./dom.js";
import { time } from "./format.js";
import { headline } from "./story.js";
import { T } from "./texts.js";

export class Status {
  #headSeen = true; // else a line at the foot says what stands there, unless all is well

  // `tryNow()` is called where somebody does not wait for the next try.
  constructor(alerts, tryNow) {
    this.alerts = alerts;
    find("state-now").addEventListener("click", tryNow);
    new IntersectionObserver(([{ isIntersecting }]) => (this.#headSeen = isIntersecting)).observe(find("state"));
  }

  // `channels` are [title, freshness]. Returns the alerts that nobody has taken: {untaken, critical, sending}.
  title(link, channels, now) {
    const { state, word } = said(link, channels, now);
    const live = state === States.LIVE;
    return this.alerts.render(live ? T.appName : `${word} – ${T.appName}`, live ? "" : word);
  }

  render({ link, story, channels, position, role, now }) {
    const { state, word, note, tone } = said(link, channels, now);
    find("state").dataset.tone = tone;
    document.documentElement.dataset.state = state;
    set(find("state-word"), word);
    set(find("state-note"), note);
    find("state-again").hidden = state !== States.ENDED;
    find("state-now").hidden = link.phase !== "lost";
    const line = find("line");
    line.hidden = this.#headSeen || state === States.LIVE || state === States.LOADING;
    line.dataset.tone = tone;
    if (!line.hidden) set(line, note ? `${word}: ${note}` : word);
    const { notice } = link;
    find("notice").hidden = notice === null;
    if (notice !== null) set(find("notice"), `${notice.message} (${notice.code})`);
    set(find("foot-position"), position === null ? "" : T.at(position));
    set(find("foot-share"), T.shared[role] ?? "");
    document.documentElement.dataset.role = role ?? "";
    log(story.entries);
  }
}

function said(link, channels, now) {
  return headline(link, channels.filter(([, { state }]) => state !== States.NOT_VISIBLE), now);
}

function log(entries) {
  const list = find("story-list");
  const top = `${entries[0]?.at} ${entries[0]?.text}`;
  if (list.dataset.top === top) return;
  list.dataset.top = top;
  list.replaceChildren(
    ...entries.map(({ at, text }) => {
      const li = make("li");
      li.append(make("span", "at", time(at)), make("span", "", text));
      return li;
    }),
  );
}
