// What the page says of itself: the word at the top, the tab's title, the notice, the foot.

import { States } from "../client/telecast.js";
import { find, make, set } from "./dom.js";
import { time } from "./format.js";
import { headline } from "./story.js";
import { T } from "./texts.js";

export class Status {
  constructor(alerts) {
    this.alerts = alerts;
  }

  // `channels` are [title, freshness]. Returns the alerts that nobody has taken: {untaken, critical}.
  title(link, story, channels, now) {
    const { state, word } = said(link, story, channels, now);
    return this.alerts.render(state === States.LIVE ? T.appName : `${word} – ${T.appName}`);
  }

  render({ link, story, channels, position, role, now }) {
    const { state, word, note, tone } = said(link, story, channels, now);
    find("state").dataset.tone = tone;
    document.documentElement.dataset.state = state;
    set(find("state-word"), word);
    set(find("state-note"), note);
    find("state-again").hidden = state !== States.ENDED;
    const { notice } = link;
    find("notice").hidden = notice === null;
    if (notice !== null) set(find("notice"), `${notice.message} (${notice.code})`);
    set(find("foot-position"), position === null ? "" : T.at(position));
    set(find("foot-share"), T.shared[role] ?? "");
    document.documentElement.dataset.role = role ?? "";
    log(story.entries);
  }
}

function said(link, story, channels, now) {
  return headline(link, story, channels.filter(([, { state }]) => state !== States.NOT_VISIBLE), now);
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
