// When the page is drawn, without a browser.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Frames } from "../../../service/telecast/web/page/static/frames.js";

// Time and frames as the test says; `drawn` are the moments at which it was drawn.
function screen() {
  const found = { at: 0, drawn: [], frames: [], timers: new Map() };
  const frames = new Frames(() => found.drawn.push(found.at), {
    request: (act) => found.frames.push(act), now: () => found.at,
    later: (act, ms) => (found.timers.set(act, found.at + ms), act), cancel: (act) => found.timers.delete(act),
  });
  found.pass = (to) => {
    found.at = to;
    for (const [act, due] of found.timers) if (due <= to && found.timers.delete(act)) act();
    for (const act of found.frames.splice(0)) act();
  };
  return { frames, found };
}

test("what comes in is drawn at once where it was quiet, and then ten times a second however much comes", () => {
  const { frames, found } = screen();
  for (let at = 0; at < 1000; at += 4) {
    frames.soon();
    found.pass(at);
  }
  assert.equal(found.drawn[0], 0);
  assert.ok(found.drawn.length >= 9 && found.drawn.length <= 10, String(found.drawn));
  found.pass(1100); // the last of it is not forgotten
  assert.equal(found.drawn.at(-1), 1100);
  found.pass(5000);
  assert.equal(found.drawn.at(-1), 1100); // nothing came
  frames.soon();
  found.pass(5001);
  assert.equal(found.drawn.at(-1), 5001);
});

test("what somebody does is drawn in the next frame, once, and what waits for it comes after", () => {
  const { frames, found } = screen();
  frames.soon();
  found.pass(0);
  frames.soon();
  const seen = [];
  frames.next(() => seen.push(found.drawn.length));
  frames.next();
  found.pass(16);
  assert.deepEqual([found.drawn, seen], [[0, 16], [2]]);
  found.pass(200);
  assert.deepEqual(found.drawn, [0, 16]);
});
