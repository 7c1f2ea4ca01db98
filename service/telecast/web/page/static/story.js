// What happened to the connection, in words: a pure fold beside the link's, the same in every tab.

import { States, connection } from "../client/telecast.js";
import { count, named, span, time } from "./format.js";
import { T } from "./texts.js";

const MOST = 30;
const S = T.story;

export function newStory() {
  return { from: null, reason: null, conflated: 0, entries: [] }; // entries: {at, text}, newest first
}

// `link` is as it was before the item.
export function foldStory(story, link, item, message) {
  const at = item.at;
  switch (item.name) {
    case "welcome":
      return { ...story, from: null, reason: null, conflated: 0 };
    case "snapshot":
      if (message.reason === "NEW") return { ...story, reason: "NEW" };
      return tell({ ...story, reason: message.reason }, at, S.needed(message.reason));
    case "resume":
      return { ...story, from: message.from };
    case "live": {
      const next = { ...story, from: null, reason: null };
      if (story.from !== null) return tell(next, at, S.resumed(seqOf(story.from), count(message.count)));
      if (story.reason !== null && story.reason !== "NEW") return next;
      return tell(next, at, S.snapshot(count(message.count)));
    }
    case "conflated": {
      const conflated = story.conflated + (message.count ?? 0);
      const known = message.count === undefined ? S.updates : S.someUpdates(count(conflated));
      return tell({ ...story, conflated }, at, S.conflated(known), "conflated");
    }
    case "gap":
      return tell(story, at, S.gap(message.channel, message.fromSeq, message.toSeq));
    case "notice":
      return tell(story, at, S.notice(message.code, message.message));
    case "stale":
    case "fresh":
      return tell(story, at, S[item.name](message.channel));
    case "~lost":
      return link.phase === "lost" ? story : tell(story, at, S.lost);
    case "~ended":
      return tell(story, at, message.message);
    default:
      return story;
  }
}

// The state of the whole page: {state, word, note, tone}. Green only where the connection is live
// and none of `channels`, as [title, freshness], is stale.
export function headline(link, channels, now) {
  const line = connection(link, now);
  const shown = (state, note, tone) => ({ state, word: named(state), note, tone });
  switch (line.state) {
    case States.LIVE: {
      const stale = channels.filter(([, { state }]) => state === States.STALE);
      if (!stale.length) return shown(States.LIVE, inWords(channels), "good");
      const words = stale.map(([title, { since, age }]) => T.quietSince(title, time(since, now), span(age)));
      return shown(States.STALE, words.join("; "), "bad");
    }
    case States.DELAYED:
      return shown(States.DELAYED, T.delayedBy(span(line.delay)), line.level === "red" ? "bad" : "warn");
    case States.RECONNECTING:
      return shown(line.state, gone(T.lostFor, link, line, now), "warn");
    case States.DOWN:
      return shown(line.state, gone(T.downFor, link, line, now), "bad");
    case States.ENDED:
      return shown(line.state, link.ended.message, "bad");
    default:
      return shown(line.state, "", "busy");
  }
}

// For how long, how it stood then, and when the next try is.
function gone(sinceWhen, link, { since }, now) {
  const next = link.retryAt !== null && link.retryAt > now ? T.waiting(Math.ceil((link.retryAt - now) / 1000)) : "";
  const stood = link.liveAt === null ? "" : T.stoodAt(time(since, now));
  return [sinceWhen(span(Math.round((now - since) / 1000) * 1000)), stood, next].filter(Boolean).join("; ");
}

function inWords(channels) {
  const never = channels.filter(([, { state }]) => state === States.NEVER).length;
  return channels.length > never ? T.current(channels.length - never, never) : "";
}

// A word in the log; one of the same `kind` on top of it is replaced, so that it can't flood.
function tell(story, at, text, kind = null) {
  const { entries } = story;
  const rest = kind !== null && entries[0]?.kind === kind ? entries.slice(1) : entries;
  return { ...story, entries: [{ at, text, kind }, ...rest].slice(0, MOST) };
}

function seqOf(position) {
  return position.slice(position.indexOf(":") + 1);
}
