// What comes in: one stream, shared with the tabs that want the same, folded into the rows, the link and
// the story. It knows no element.

import { Rows, foldLink, freshness, judgedByService, newLink, staleAfterOf } from "../client/telecast.js";
import { Share } from "./share.js";
import { foldStory, newStory } from "./story.js";

const FILTERS = ["traderId", "symbol", "exchange", "severity"];

// Of a filter what the service can narrow by.
export function checkedFilter(values) {
  return Object.fromEntries(FILTERS.filter((name) => values[name]?.length).map((name) => [name, values[name]]));
}

export class Feed {
  rows = new Rows();
  link = newLink(Date.now());
  story = newStory();
  position = null; // where to go on
  catalogue = null; // channel -> entry; null: not known yet

  // `news(message, live)` is called for each event before its row changes, `took(item, message)` for
  // each item after; `dump()` and `load(state)` are of what else a late tab gets.
  constructor({ client, clock, news, took, dump, load, changed }) {
    Object.assign(this, { client, clock, news, took, dump, load, changed });
  }

  // The stream with this filter.
  connect(filter) {
    const wanted = checkedFilter(filter);
    this.stream = this.client.stream({ clientId: "page", ...wanted }, (item) => {
      this.#take(item);
      this.share.tell(item);
    });
    this.share = new Share({
      what: Object.keys(wanted).length ? JSON.stringify(wanted) : "",
      lead: () => this.stream.open(this.position),
      again: () => this.#again(),
      take: (items) => items.forEach((item) => this.#take(item)),
      dump: () => ({ ...this.dump(), rows: this.rows.dump(), link: this.link, story: this.story, position: this.position }),
      load: (state) => this.#load(state),
      changed: this.changed,
      sessionChanged: () => location.reload(),
    });
    this.share.start();
  }

  // Somebody does not wait for the next try.
  tryNow() {
    if (this.share.role === "follower") this.share.askAgain();
    else this.#again();
  }

  #again() {
    if (this.link.phase === "lost") this.stream.open(this.position);
  }

  // What is selected changes: rows that were had under another filter are nobody's proof.
  refilter(filter) {
    this.stream.close();
    this.share.close();
    this.position = null;
    this.link = newLink(Date.now());
    for (const channel of [...this.rows.whole]) this.rows.forget(channel);
    this.connect(filter);
  }

  // One item of the stream, our own or another tab's.
  #take(item) {
    const message = JSON.parse(item.text);
    const live = this.link.phase === "live";
    this.position = item.id;
    this.story = foldStory(this.story, this.link, item, message);
    this.link = foldLink(this.link, item, message, this.clock.offset);
    if (message.type === "event") this.news(message, live);
    this.rows.apply(message);
    this.took(item, message);
  }

  #load({ rows, link, story, position, ...more }) {
    this.rows.load(rows);
    Object.assign(this, { link, story, position });
    this.load(more);
  }

  // The freshness of one channel.
  freshness(channel, now) {
    const facts = {
      channel, visible: this.visible(channel), whole: this.rows.whole.has(channel), rows: this.rows.of(channel).size,
      lastAt: this.rows.lastAt.get(channel) ?? null, staleAfter: this.staleAfter(channel),
      judged: judgedByService(this.catalogue?.get(channel)),
    };
    return freshness(this.link, facts, now, this.clock.offset);
  }

  staleAfter(channel) {
    return staleAfterOf(this.catalogue?.get(channel), channel);
  }

  // Null: not known yet.
  visible(channel) {
    return this.catalogue === null ? null : this.catalogue.has(channel);
  }
}
