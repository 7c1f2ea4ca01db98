// The bar above the panels: search, filter, what is hidden, how it looks and sounds.

import { button, find, make, menu, say } from "./dom.js";
import { T } from "./texts.js";

const SEARCH_MS = 120;

export function toolbar(desk) {
  const { prefs } = desk;
  let timer = 0;
  find("search").addEventListener("input", ({ target }) => {
    clearTimeout(timer);
    timer = setTimeout(() => desk.search(target.value), SEARCH_MS);
  });
  find("search").addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    event.stopPropagation();
    desk.search("");
    event.target.blur();
  });
  filter(desk);
  look(desk);
  const panels = menu(T.hidden);
  panels.details.id = "hidden-panels";
  const list = () => {
    panels.details.hidden = prefs.get("hidden").length === 0;
    panels.body.replaceChildren(...hiddenPanels(desk));
  };
  prefs.onchange(list);
  list();
  find("bar-end").before(panels.details);
}

function filter(desk) {
  const { details, body } = menu(T.filter.title);
  details.id = "filter";
  const form = body.appendChild(make("form", "filter-form"));
  form.append(make("p", "quiet", T.filter.help));
  const inputs = {};
  for (const field of ["traderId", "symbol", "exchange", "severity"]) {
    const label = form.appendChild(make("label", "", T.filter[field]));
    const input = (inputs[field] = label.appendChild(make("input")));
    Object.assign(input, { name: field, autocomplete: "off", spellcheck: false });
  }
  const apply = make("button", "", T.filter.apply);
  apply.type = "submit";
  form.append(apply, button(T.filter.clear, () => desk.filter({})));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const values = Object.entries(inputs).map(([field, { value }]) => [field, value.split(",").map((each) => each.trim()).filter(Boolean)]);
    desk.filter(Object.fromEntries(values));
    details.open = false;
  });
  const words = find("filter-words");
  const clear = find("filter-clear");
  clear.addEventListener("click", () => desk.filter({}));
  const show = (name) => {
    if (name !== undefined && name !== "filter") return;
    const holds = Object.entries(desk.prefs.get("filter")).filter(([, values]) => values.length);
    for (const [field, input] of Object.entries(inputs)) input.value = (desk.prefs.get("filter")[field] ?? []).join(", ");
    words.textContent = holds.length ? T.filter.active(holds.map(([field, values]) => `${T.filter[field] ?? field} ${values.join(", ")}`).join("; ")) : "";
    clear.parentElement.hidden = holds.length === 0;
  };
  desk.prefs.onchange(show);
  show();
  find("bar-end").before(details);
}

function look(desk) {
  const { prefs } = desk;
  const { details, body } = menu(T.look.title);
  details.id = "view";
  for (const [name, [title, choices]] of Object.entries(T.look.choices)) {
    const label = body.appendChild(make("label", "", title));
    const select = label.appendChild(make("select"));
    select.name = name;
    for (const [value, text] of Object.entries(choices)) {
      const option = select.appendChild(make("option", "", text));
      option.value = value;
    }
    select.value = prefs.get(name);
    select.addEventListener("change", () => prefs.set(name, select.value));
    prefs.onchange((changed) => changed === name && (select.value = prefs.get(name)));
  }
  const toggle = (name, title, allowed = async () => true) => {
    const label = body.appendChild(make("label", "check"));
    const box = label.appendChild(make("input"));
    Object.assign(box, { type: "checkbox", name, checked: prefs.get(name) });
    label.append(title);
    box.addEventListener("change", async () => {
      if (box.checked && !(await allowed())) box.checked = false;
      prefs.set(name, box.checked);
    });
  };
  toggle("sound", T.look.sound);
  toggle("notify", T.look.notify, () => desk.alerts.allowNotifications());
  body.append(
    button(T.look.copy, () => copyLink(prefs), "copy-link"),
    button(T.look.reset, () => {
      prefs.reset();
      say(T.restored);
    }),
  );
  find("bar-end").before(details);
}

function hiddenPanels({ prefs, layout }) {
  const hidden = prefs.get("hidden").filter((id) => layout.panels.has(id));
  return hidden.map((id) => button(layout.panels.get(id).title, () => layout.show(id, true)));
}

async function copyLink(prefs) {
  const link = prefs.link();
  try {
    await navigator.clipboard.writeText(link);
    say(T.linkCopied);
  } catch {
    prompt(T.linkCopied, link);
  }
}
