// A form made from a JSON Schema, and the payload that somebody has filled in.

import { make } from "./dom.js";
import { T } from "./texts.js";

const F = T.debug.form;

function typesOf(rule) {
  return [rule.type ?? (rule.enum ? "string" : "object")].flat();
}

// What kind of input a field has: choice, switch, number, time, text, or json for all else.
export function kindOf(rule) {
  const types = typesOf(rule);
  if (rule.enum) return "choice";
  if (types.includes("boolean")) return "switch";
  if (types.includes("object") || types.includes("array")) return "json";
  if (types.includes("string")) return rule.format === "date-time" ? "time" : "text";
  return types.includes("integer") || types.includes("number") ? "number" : "json";
}

// The value of a field as the schema wants it; undefined: it is left out. Throws where it can't be read.
export function valueOf(name, rule, text) {
  if (text === "") return undefined;
  switch (kindOf(rule)) {
    case "choice": {
      const found = rule.enum.find((each) => String(each) === text);
      return found === undefined ? text : found;
    }
    case "switch":
      return text === "true";
    case "number": {
      // Digits that a float does not hold would be changed on the way.
      const number = Number(text);
      if (!Number.isFinite(number)) throw new Error(F.noNumber(name));
      return number;
    }
    case "json":
      try {
        return JSON.parse(text);
      } catch {
        throw new Error(F.noJson(name));
      }
    default:
      return text;
  }
}

// The payload of [name, rule, text] fields. Throws with what is wrong.
export function payloadOf(fields, required) {
  const payload = {};
  for (const [name, rule, text] of fields) {
    const value = valueOf(name, rule, text);
    if (value !== undefined) payload[name] = value;
    else if (required.includes(name)) throw new Error(F.missing(name));
  }
  return payload;
}

export class SchemaForm {
  #inputs = []; // [name, rule, input]
  #required = [];

  constructor(id) {
    this.id = id;
    this.element = make("div", "schema-form");
  }

  // `example` fills it in; the required fields come first.
  show(schema, example) {
    this.#required = schema?.required ?? [];
    const fields = Object.entries(schema?.properties ?? {});
    fields.sort(([a], [b]) => Number(this.#required.includes(b)) - Number(this.#required.includes(a)));
    this.#inputs = fields.map(([name, rule]) => [name, rule, this.#input(name, rule, example?.[name])]);
    this.element.replaceChildren(
      ...this.#inputs.map(([name, rule, input]) => {
        const label = make("label", kindOf(rule) === "json" ? "whole" : "");
        label.append(make("span", "", this.#required.includes(name) ? F.required(name) : name), input);
        return label;
      }),
    );
  }

  #input(name, rule, value) {
    const kind = kindOf(rule);
    const text = value === undefined || value === null ? "" : typeof value === "object" ? JSON.stringify(value) : String(value);
    let input;
    if (kind === "choice" || kind === "switch") {
      input = make("select");
      const values = kind === "switch" ? [true, false] : rule.enum.filter((each) => each !== null);
      for (const each of ["", ...values.map(String)]) {
        const option = input.appendChild(make("option", "", each || F.leftOut));
        option.value = each;
      }
    } else if (kind === "json") {
      input = make("textarea");
      input.rows = 2;
    } else {
      input = make("input");
      if (kind === "time") input.placeholder = "2026-11-22T18:17:19Z";
    }
    Object.assign(input, { name, autocomplete: "off", spellcheck: false });
    input.value = text;
    return input;
  }

  // Throws with what is wrong.
  get payload() {
    return payloadOf(this.#inputs.map(([name, rule, input]) => [name, rule, input.value.trim()]), this.#required);
  }
}
