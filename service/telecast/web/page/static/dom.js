// Elements. All that comes from outside becomes text, never markup.

export const find = (id) => document.getElementById(id);

export function make(tag, className = "", text = "") {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text) element.textContent = text;
  return element;
}

export function button(text, act, className = "") {
  const element = make("button", className, text);
  element.type = "button";
  element.addEventListener("click", act);
  return element;
}

// Writes only what differs: the rest of the page stays as it was laid out.
export function set(element, text) {
  if (element.firstChild?.nodeType === Node.TEXT_NODE && element.childNodes.length === 1) {
    if (element.firstChild.data !== text) element.firstChild.data = text;
  } else if (element.textContent !== text) {
    element.textContent = text;
  }
}

export function options(select, entries, chosen) {
  select.replaceChildren(
    ...entries.map(([value, text]) => {
      const option = make("option", "", text);
      option.value = value;
      return option;
    }),
  );
  if (chosen !== undefined) select.value = chosen;
}

// A menu that opens below its word: a `details`, so that it works by keyboard; it closes on Esc, on
// a choice that says so, and when the focus leaves it.
export function menu(label, title = label) {
  const details = make("details", "menu");
  const summary = details.appendChild(make("summary", "", label));
  summary.setAttribute("aria-label", title);
  summary.title = title;
  const body = details.appendChild(make("div", "menu-body"));
  details.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !details.open) return;
    event.stopPropagation();
    details.open = false;
    summary.focus();
  });
  details.addEventListener("focusout", ({ relatedTarget }) => {
    if (relatedTarget !== null && !details.contains(relatedTarget)) details.open = false;
  });
  document.addEventListener("pointerdown", ({ target }) => {
    if (details.open && !details.contains(target)) details.open = false;
  });
  return { details, body };
}

let sayTimer = 0;

// For screen readers, and for a moment on the page unless it stands there already.
export function say(text, { urgent = false, shown = true } = {}) {
  const toast = find(urgent ? "say-now" : "say");
  toast.classList.toggle("hidden", !shown);
  toast.textContent = text;
  clearTimeout(sayTimer);
  sayTimer = setTimeout(() => (toast.textContent = ""), 8000);
}
