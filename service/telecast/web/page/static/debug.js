// The debugger: a stream of one's own, asked for as one likes, that is cut and resumed over either
// transport; and a publish from a form. It knows nothing of the desk's stream, and shares none.

import { Refused, Stream, connection, foldLink, newLink } from "../client/telecast.js";
import { button, make, options, say, set } from "./dom.js";
import { bytes, count, named } from "./format.js";
import { SchemaForm } from "./form.js";
import { keyForm } from "./keyring.js";
import { Messages } from "./messages.js";
import { KINDS, publishSnippet, snippet } from "./snippets.js";
import { T } from "./texts.js";

const D = T.debug;
const FIELD = /^[A-Za-z_][A-Za-z0-9_]*$/;
// Nothing was asked for yet; a stream is there, or coming back; it was cut; the service has ended it. After
// both of these it can be resumed.
const PHASES = Object.freeze({ IDLE: "idle", GOING: "going", CUT: "cut", ENDED: "ended" });
const OTHER = { sse: "websocket", websocket: "sse" };
const RATES = ["", "0.2", "0.5", "1", "2", "5", "10", "20"];

// {field: [value]} of "traderId=t1, symbol=BTCUSDT". Throws where a part is none.
export function filterOf(text) {
  const filter = {};
  for (const part of text.split(",").map((each) => each.trim()).filter(Boolean)) {
    const at = part.indexOf("=");
    const field = part.slice(0, Math.max(0, at)).trim();
    if (!FIELD.test(field) || at === part.length - 1) throw new Error(D.noFilter(part));
    (filter[field] ??= []).push(part.slice(at + 1).trim());
  }
  return filter;
}

export class Debugger {
  #phase = PHASES.IDLE;
  #stream = null; // while it is going
  #query = {}; // what was asked for last
  #transport = "sse";
  #link = newLink(Date.now());
  #position = null;
  #tally = { messages: 0, bytes: 0 };
  #idempotencyKey = null; // of a payload whose publish is not answered yet
  #catalogue = [];

  // `base` is the address of the service, for what is copied.
  constructor({ panel, keyring, channels, changed, base }) {
    Object.assign(this, { panel, keyring, changed, base });
    this.body = panel.body.appendChild(make("div", "debug"));
    this.#askingForm();
    this.state = this.body.appendChild(make("p", "debug-state"));
    this.state.setAttribute("role", "status");
    const tools = this.body.appendChild(make("div", "debug-tools"));
    this.messages = new Messages({ id: "debug", body: this.body, tools, note: panel.count, channels, schedule: changed, deep: true });
    this.#copying();
    this.#publishing();
    keyring.onchange(() => this.#mayPublish());
    this.#mayPublish();
  }

  // --- what is asked for

  #askingForm() {
    const form = this.body.appendChild(make("form", "debug-form"));
    const field = (name, title, element) => {
      const label = form.appendChild(make("label", "", title));
      Object.assign(label.appendChild(element), { name, autocomplete: "off", spellcheck: false });
      element.addEventListener("change", () => this.#copy());
      return element;
    };
    const text = (name, title, value, placeholder = "") => Object.assign(field(name, title, make("input")), { value, placeholder });
    const choice = (name, title, entries) => {
      const select = field(name, title, make("select"));
      options(select, entries);
      return select;
    };
    this.fields = {
      transport: choice("transport", D.transport, [["sse", "SSE"], ["websocket", "WebSocket"]]),
      channels: text("channels", D.channels, "*", "positions, market-*"),
      filter: text("filter", D.filter, "", "traderId=t1, symbol=BTCUSDT"),
      since: text("since", D.since, "", D.sinceHint),
      delivery: choice("delivery", D.delivery, [["conflated", "conflated"], ["all", "all"]]),
      maxRate: choice("maxRate", D.maxRate, RATES.map((rate) => [rate, rate || D.unlimited])),
    };
    const buttons = form.appendChild(make("p", "buttons"));
    const connect = buttons.appendChild(make("button", "primary", D.connect));
    connect.type = "submit";
    this.cutOff = buttons.appendChild(button(D.cut, () => this.#cut(), "debug-cut"));
    this.resume = buttons.appendChild(button(D.resume, () => this.#resume(this.#transport), "debug-resume"));
    this.change = buttons.appendChild(button("", () => this.#resume(OTHER[this.#transport]), "debug-change"));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#connect();
    });
  }

  get asked() {
    const { transport, channels, filter, since, delivery, maxRate } = this.fields;
    return {
      transport: transport.value, channels: channels.value.split(",").map((each) => each.trim()).filter(Boolean),
      filter: filterOf(filter.value), since: since.value.trim(), delivery: delivery.value, maxRate: maxRate.value,
    };
  }

  #connect() {
    let asked;
    try {
      asked = this.asked;
    } catch (fault) {
      say(fault.message, { urgent: true });
      return;
    }
    this.#tally = { messages: 0, bytes: 0 };
    this.#transport = asked.transport;
    this.#query = {
      clientId: "debugger", channels: asked.channels.join(","), ...asked.filter,
      ...(asked.delivery === "all" ? { delivery: "all" } : {}), ...(asked.maxRate ? { maxRate: asked.maxRate } : {}),
    };
    this.#open(asked.since || null);
  }

  #open(since) {
    this.#stream?.close();
    this.#phase = PHASES.GOING;
    this.#link = newLink(Date.now());
    const stream = (this.#stream = new Stream({
      url: this.base, query: this.#query, transport: this.#transport, emit: (item) => this.#stream === stream && this.#take(item),
    }));
    stream.open(since);
    this.changed();
  }

  #take(item) {
    const message = JSON.parse(item.text);
    this.#link = foldLink(this.#link, item, message);
    if (item.id) this.#position = item.id;
    if (item.name === "~ended") this.#phase = PHASES.ENDED;
    if (!item.name.startsWith("~")) {
      this.#tally.messages++;
      this.#tally.bytes += item.text.length;
    }
    this.messages.add(item);
    this.changed();
  }

  // The connection goes without a word, as a cable that is pulled; its position stays.
  #cut() {
    this.#stream?.close();
    this.#stream = null;
    this.#phase = PHASES.CUT;
    this.changed();
  }

  #resume(transport) {
    this.#transport = transport;
    this.fields.transport.value = transport;
    this.#copy();
    this.#open(this.#position);
  }

  // --- to be copied

  #copying() {
    const box = this.body.appendChild(make("details", "debug-copy"));
    box.append(make("summary", "", D.copyAs));
    const head = box.appendChild(make("p", "buttons"));
    this.kind = head.appendChild(make("select"));
    this.kind.setAttribute("aria-label", D.copyAs);
    options(this.kind, KINDS.map((kind) => [kind, D.kinds[kind]]));
    this.kind.addEventListener("change", () => this.#copy());
    this.text = make("pre");
    this.text.tabIndex = 0;
    this.text.setAttribute("aria-label", D.copyAs);
    head.append(copyButton(() => this.text.textContent));
    box.append(this.text);
    this.#copy();
  }

  #copy() {
    if (!this.text) return;
    try {
      set(this.text, snippet(this.kind.value, this.asked, this.base));
    } catch (fault) {
      set(this.text, fault.message);
    }
  }

  // --- publishing

  #publishing() {
    const box = this.body.appendChild(make("details", "debug-publish"));
    box.append(make("summary", "", D.publish), keyForm(this.keyring, "publish", D.why));
    const form = box.appendChild(make("form"));
    const label = form.appendChild(make("label", "", D.channel));
    this.channel = label.appendChild(make("select"));
    this.schema = new SchemaForm("debug-payload");
    const buttons = make("p", "buttons");
    this.send = buttons.appendChild(make("button", "primary", D.publish));
    this.send.type = "submit";
    buttons.append(copyButton(() => this.#publishAs(), D.copyCurl));
    this.answer = make("p", "debug-answer");
    this.answer.setAttribute("role", "status");
    form.append(this.schema.element, buttons, this.answer);
    form.addEventListener("input", () => (this.#idempotencyKey = null));
    this.channel.addEventListener("change", () => this.#showSchema());
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#publish();
    });
  }

  // The catalogue: what can be published, and with which fields.
  know(entries) {
    this.#catalogue = entries;
    for (const { name } of entries) this.messages.know(name);
    const chosen = this.channel.value;
    options(this.channel, entries.map(({ name, title }) => [name, title ?? name]), entries.some(({ name }) => name === chosen) ? chosen : entries[0]?.name);
    if (this.channel.value !== chosen) this.#showSchema();
    this.#mayPublish();
  }

  get #entry() {
    return this.#catalogue.find(({ name }) => name === this.channel.value);
  }

  #showSchema() {
    this.#idempotencyKey = null;
    set(this.answer, "");
    this.schema.show(this.#entry?.schema, this.#entry?.example);
    this.#mayPublish();
  }

  #mayPublish() {
    this.send.disabled = !this.keyring.may(this.#entry?.publishScope ?? "publish");
    this.send.title = this.send.disabled ? D.why : "";
  }

  #publishAs() {
    return publishSnippet(this.channel.value, this.schema.payload, this.base);
  }

  // The same payload that is sent again after a fault counts once.
  async #publish() {
    let payload;
    try {
      payload = this.schema.payload;
    } catch (fault) {
      set(this.answer, fault.message);
      return;
    }
    this.#idempotencyKey ??= crypto.randomUUID?.() ?? String(Math.random());
    this.send.disabled = true;
    set(this.answer, D.sending);
    try {
      const channel = this.channel.value;
      const receipt = await this.keyring.client.publish(channel, payload, { idempotencyKey: this.#idempotencyKey, attempts: 2 });
      set(this.answer, D.published(receipt.position, receipt.duplicate));
      this.#idempotencyKey = null;
    } catch (fault) {
      const details = fault instanceof Refused && fault.details ? ` ${JSON.stringify(fault.details)}` : "";
      set(this.answer, D.notPublished(`${fault.message}${details}`, fault.advice ?? ""));
    } finally {
      this.#mayPublish();
    }
  }

  // --- drawing

  // Whether there is something that is not drawn yet.
  render(now) {
    if (this.panel.section.hidden) return false;
    const going = this.#phase === PHASES.GOING;
    const word = { [PHASES.IDLE]: D.idle, [PHASES.CUT]: D.isCut }[this.#phase] ?? named(connection(this.#link, now).state);
    set(this.state, this.#phase === PHASES.IDLE ? word : this.#said(word));
    this.cutOff.disabled = !going;
    this.resume.disabled = going || this.#position === null;
    this.change.disabled = this.#position === null;
    set(this.change, D.resumeAt(D.transports[OTHER[this.#transport]]));
    set(this.panel.fresh, going ? word : "");
    return this.messages.render(now);
  }

  #said(word) {
    const { messages, bytes: size } = this.#tally;
    const ended = this.#phase === PHASES.ENDED ? this.#link.ended.message : "";
    return D.state(word, D.transports[this.#transport], this.#position ?? "–", count(messages), bytes(size), ended);
  }
}

function copyButton(text, title = T.debug.copy) {
  return button(title, async () => {
    try {
      await navigator.clipboard.writeText(text());
      say(T.debug.copied);
    } catch (fault) {
      say(T.debug.notCopied(fault.message), { urgent: true });
    }
  });
}
