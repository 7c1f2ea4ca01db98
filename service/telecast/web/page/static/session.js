// Who we are to the service. The key itself is sent once and kept nowhere.

const PATH = "api/v1/session"; // relative: the page may stand under a prefix

async function call(method, body) {
  const options = { method, headers: {} };
  if (body !== undefined) {
    options.headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(body);
  }
  const response = await fetch(PATH, options);
  const answer = await response.json();
  if (!answer.success) throw new Refused(answer.error);
  return { ...answer.data, serverTime: Date.parse(answer.timestamp) };
}

export class Refused extends Error {
  constructor({ code, message }) {
    super(message);
    this.code = code;
  }
}

export const whoAmI = () => call("GET");
export const signIn = (key, { operate = false } = {}) => call("POST", operate ? { key, operate } : { key });
export const signOut = () => call("DELETE");

// A link that signs in once carries its ticket in the fragment, which no server or log ever sees;
// it leaves the address before anything else happens. Resolves to why it failed, or null.
export async function signInByLink({ operate }) {
  const ticket = new URLSearchParams(location.hash.slice(1)).get("ticket");
  if (ticket === null) return null;
  history.replaceState(null, "", location.pathname + location.search);
  try {
    await call("POST", { ticket, operate }); // who has the link has the right
    return null;
  } catch (fault) {
    return fault.message;
  }
}
