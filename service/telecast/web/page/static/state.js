// The connection in words. A pure fold over what the stream tells, the same in every tab.

import { time } from "./format.js";

export const PHASES = {
  connecting: { word: "Connecting", tone: "busy" },
  filling: { word: "Catching up", tone: "busy" },
  live: { word: "Live", tone: "good" },
  lost: { word: "Reconnecting", tone: "busy" },
  ended: { word: "Disconnected", tone: "bad" },
};
const MOST_STORY = 30;

export function initial() {
  return {
    phase: "connecting",
    since: Date.now(),
    retryAt: null,
    reason: null, // of the snapshot that is being told
    from: null, // the position of the resume that is being told
    note: "",
    notice: null,
    ended: null,
    conflated: 0,
    connectionId: null,
    story: [], // {at, text}, newest first
  };
}

// The state after one item; `message` is its text, parsed.
export function fold(state, item, message) {
  const at = item.at;
  switch (item.name) {
    case "welcome":
      return move(state, "filling", at, {
        connectionId: message.connectionId, retryAt: null, reason: null, from: null,
        notice: null, conflated: 0,
      });
    case "snapshot": {
      const next = move(state, "filling", at, { reason: message.reason });
      if (message.reason === "NEW") return next;
      return say(next, at, `a snapshot was needed: ${message.reason}`);
    }
    case "resume":
      return move(state, "filling", at, { from: message.from });
    case "live": {
      const next = move(state, "live", at, { reason: null, from: null });
      if (state.from !== null) {
        return say(next, at, `resumed at ${seqOf(state.from)}, ${count(message.count)} replayed`);
      }
      if (state.reason !== null && state.reason !== "NEW") return next;
      return say(next, at, `from a snapshot of ${count(message.count)} rows`);
    }
    case "conflated": {
      const sum = state.conflated + (message.count ?? 0);
      const known = message.count === undefined ? "updates" : `${count(sum)} updates`;
      return say({ ...state, conflated: sum }, at, `conflated ${known}`, "conflated");
    }
    case "gap":
      return say(state, at, `${message.channel}: ${message.fromSeq} to ${message.toSeq} exist no more`);
    case "notice":
      return say({ ...state, notice: message }, at, `notice: ${message.code}, ${message.message}`);
    case "fault":
      return say(state, at, `${message.code}: ${message.message}`);
    case "~lost": {
      const retryAt = message.retryAt ?? waitOf(state.notice, at);
      const again = state.phase === "lost";
      const next = move(state, "lost", again ? state.since : at, { retryAt });
      return again ? next : say(next, at, "the connection was lost");
    }
    case "~ended":
      return say(move(state, "ended", at, { ended: message }), at, message.message);
    default:
      return state;
  }
}

// What stands beside the word; `now` so that it can count.
export function note(state, now) {
  if (state.phase === "lost") {
    const seconds = Math.max(0, Math.round((now - state.since) / 1000));
    const waiting = state.retryAt !== null && state.retryAt > now;
    const when = waiting ? `in ${Math.ceil((state.retryAt - now) / 1000)} s` : `for ${seconds} s`;
    return `${when}; this is how it stood at ${time(state.since)}`;
  }
  if (state.phase === "ended") return state.ended.message;
  return state.note;
}

function move(state, phase, at, more) {
  const since = state.phase === phase ? state.since : at;
  return { ...state, phase, since, ...more };
}

// A word in the log; one of the same `kind` on top of it is replaced, so that it can't flood.
function say(state, at, text, kind = null) {
  const rest = kind !== null && state.story[0]?.kind === kind ? state.story.slice(1) : state.story;
  return { ...state, note: text, story: [{ at, text, kind }, ...rest].slice(0, MOST_STORY) };
}

function waitOf(notice, at) {
  return notice?.retryAfterMs ? at + notice.retryAfterMs : null;
}

export function seqOf(position) {
  return position.slice(position.indexOf(":") + 1);
}

function count(number) {
  return number.toLocaleString("en");
}
