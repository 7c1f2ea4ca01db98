// The worker's end of reading the past: asks the service by the session, as the page does.

import { Client } from "../client/telecast.js";
import { readPast } from "./past.js";

self.onmessage = async ({ data: { id, base, channel, filter, parts } }) => {
  const client = new Client(base, { prepare: false });
  try {
    const ask = (page) => client.history(channel, { ...page, filter });
    const snapshot = (page) => client.snapshot(channel, { ...page, filter });
    const found = await readPast({ ask, snapshot, channel, parts });
    self.postMessage({ id, found });
  } catch (fault) {
    self.postMessage({ id, fault: fault.message });
  }
};
