// Who is there: signs in, then hands the page to the desk.

import { Desk } from "./desk.js";
import { find, set } from "./dom.js";
import * as kiosk from "./kiosk.js";
import * as session from "./session.js";
import { Share } from "./share.js";
import { T } from "./texts.js";

const AGAIN_MS = 2000;

function showSignIn(why, share) {
  const form = find("sign-in");
  find("page").hidden = true;
  find("sign-in-place").hidden = form.hidden = false;
  document.title = T.signIn.title;
  if (why) set(find("sign-in-why"), why);
  kiosk.waitForSession();
  find("key").focus();
  form.onsubmit = async (event) => {
    event.preventDefault();
    const key = find("key").value.trim();
    set(find("sign-in-fault"), "");
    try {
      await session.signIn(key, { operate: find("operate").checked });
      find("key").value = "";
      share?.tellSessionChanged();
      location.reload();
    } catch (fault) {
      set(find("sign-in-fault"), fault instanceof session.Refused ? fault.message : T.signIn.unreachable);
    }
  };
}

async function begin() {
  const failed = await session.signInByLink({ operate: !kiosk.KIOSK });
  let me;
  try {
    me = await session.whoAmI();
  } catch {
    find("starting").hidden = false;
    setTimeout(begin, AGAIN_MS);
    return;
  }
  find("starting").hidden = true;
  if (!me.signedIn) {
    const tabs = new Share({ sessionChanged: () => location.reload() });
    showSignIn(failed ?? (me.why.code === "UNAUTHENTICATED" ? null : me.why.message), tabs);
    return;
  }
  new Desk(me, showSignIn).start();
}

// A sign-in link that is pasted into an open tab changes nothing but the fragment.
addEventListener("hashchange", () => location.hash.includes("ticket=") && location.reload());

kiosk.begin();
begin();
