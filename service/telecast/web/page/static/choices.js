// What can be chosen of a table: how its rows are grouped, which columns it has.

import { make, menu } from "./dom.js";
import { T } from "./texts.js";

// The choice of groups in a panel's head.
export function groupChoice(panel, table, view, prefs) {
  const select = panel.tools.appendChild(make("select", "group-by"));
  select.setAttribute("aria-label", T.group);
  for (const name of ["", ...Object.keys(view.groups)]) {
    const option = select.appendChild(make("option", "", T.groups[name]));
    option.value = name;
  }
  select.value = prefs.table(table.id).group;
  select.addEventListener("change", () => {
    prefs.setTable(table.id, { group: select.value });
    table.resort();
  });
}

// The choice of columns; `changed` is called after one.
export function columnChoice(panel, table, view, prefs, changed) {
  const { details, body } = menu(T.columnChoice, `${T.columnChoice}: ${panel.title}`);
  for (const column of view.columns) {
    const label = body.appendChild(make("label"));
    const box = label.appendChild(make("input"));
    box.type = "checkbox";
    box.checked = table.columns.includes(column);
    label.append(column.title);
    box.addEventListener("change", () => {
      const shown = new Set(table.columns.map(({ id }) => id));
      if (box.checked) shown.add(column.id);
      else shown.delete(column.id);
      const hidden = view.columns.map(({ id }) => id).filter((id) => !shown.has(id));
      prefs.setTable(table.id, { hidden });
      table.columnsChanged();
      changed();
    });
  }
  panel.tools.append(details);
}
