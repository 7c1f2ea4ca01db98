// The wall display, at `?kiosk`: it looks and does nothing, keeps the screen awake, and comes back by
// itself when somebody has signed in again.

import { find } from "./dom.js";
import * as session from "./session.js";

const AGAIN_MS = 10_000;

export const KIOSK = new URLSearchParams(globalThis.location?.search ?? "").has("kiosk");

// Before anything is shown.
export function begin() {
  if (!KIOSK) return;
  document.documentElement.dataset.kiosk = "";
  find("operate").parentElement.hidden = true;
  stayAwake();
  document.addEventListener("visibilitychange", stayAwake);
}

// A lock is lost whenever the tab is hidden. Browsers give none without TLS.
async function stayAwake() {
  if (document.hidden) return;
  try {
    await navigator.wakeLock?.request("screen");
  } catch {
    // refused, such as on a low battery
  }
}

// Once the session is over: look whether there is a new one.
export function waitForSession() {
  if (!KIOSK) return;
  setInterval(async () => {
    try {
      if ((await session.whoAmI()).signedIn) location.reload();
    } catch {
      // nobody answers
    }
  }, AGAIN_MS);
}
