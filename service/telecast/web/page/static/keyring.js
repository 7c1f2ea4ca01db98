// A key for what a browser's session may not do: administer and publish. It is in the memory of this
// tab alone: in no storage, in no other tab, gone with a reload. It is sent to our own service only.

import { Client } from "../client/telecast.js";
import { button, make, set } from "./dom.js";
import { T } from "./texts.js";

const K = T.keyring;

export class Keyring {
  #listeners = [];
  client = null; // asks with the key; null while there is none
  name = "";
  scopes = [];

  onchange(listener) {
    this.#listeners.push(listener);
  }

  may(scope) {
    return this.client !== null && this.scopes.includes(scope);
  }

  // Rejects with why the key is not taken.
  async take(key) {
    const client = new Client(".", { key, prepare: false });
    const me = await client.call("GET", "/api/v1/session");
    if (!me.signedIn) throw new Error(me.why.message);
    Object.assign(this, { client, name: me.name, scopes: me.scopes });
    this.#tell();
  }

  forget() {
    Object.assign(this, { client: null, name: "", scopes: [] });
    this.#tell();
  }

  #tell() {
    for (const listener of this.#listeners) listener();
  }
}

// Where the key is given: it stands there while the keyring holds none with this scope.
export function keyForm(keyring, scope, why) {
  const box = make("div", "key-box");
  const form = box.appendChild(make("form", "key-form"));
  form.append(make("p", "quiet", `${why} ${K.memory}`));
  const label = form.appendChild(make("label", "", K.label(scope)));
  const input = label.appendChild(make("input"));
  Object.assign(input, { type: "password", autocomplete: "off", required: true, spellcheck: false, placeholder: "tc_…" });
  const use = form.appendChild(make("button", "", K.use));
  use.type = "submit";
  const fault = form.appendChild(make("p", "fault"));
  fault.setAttribute("role", "alert");
  const held = box.appendChild(make("p", "quiet key-held"));
  const words = held.appendChild(make("span"));
  held.append(" ", button(K.forget, () => keyring.forget()));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const key = input.value.trim();
    set(fault, "");
    try {
      await keyring.take(key);
      if (!keyring.may(scope)) set(fault, K.lacks(scope));
    } catch (error) {
      set(fault, error.message);
    }
    input.value = "";
  });
  const show = () => {
    form.hidden = keyring.may(scope);
    held.hidden = !form.hidden;
    set(words, K.held(keyring.name));
  };
  keyring.onchange(show);
  show();
  return box;
}
