// What the debugger makes of what somebody has typed, without a browser.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { test } from "node:test";

globalThis.localStorage = undefined;
const STATIC = "../../../service/telecast/web/page/static";
const { filterOf } = await import(`${STATIC}/debug.js`);
const { kindOf, payloadOf } = await import(`${STATIC}/form.js`);
const { KINDS, publishSnippet, snippet } = await import(`${STATIC}/snippets.js`);

const ASKED = { transport: "sse", channels: ["*", "positions"], filter: { traderId: ["it's $HOME", "t2"] }, since: "-10m", delivery: "all", maxRate: "" };
const words = (line) => JSON.parse(execFileSync("sh", ["-c", `node -e 'console.log(JSON.stringify(process.argv.slice(1)))' -- ${line}`], { encoding: "utf8" }));

test("a filter is read, and what is none is named", () => {
  assert.deepEqual(filterOf(" traderId=t1, symbol=A/B=C ,traderId = t2"), { traderId: ["t1", "t2"], symbol: ["A/B=C"] });
  assert.deepEqual(filterOf(""), {});
  for (const text of ["symbol", "=x", "symbol=", "a b=c"]) assert.throws(() => filterOf(text), /field=value/);
});

test("a command that is pasted says the same as the form, whatever was typed", () => {
  const [command, , , , address] = words(snippet("curl", ASKED, "http://h:1/x"));
  assert.equal(command, "curl");
  assert.equal(new URL(address).searchParams.getAll("traderId")[0], "it's $HOME");
  assert.equal(new URL(address).pathname, "/x/sse/telemetry");
  const tail = words(snippet("tail", ASKED, "http://h:1"));
  assert.deepEqual(tail.slice(2, 4), ["*", "positions"]);
  assert.ok(tail.includes("traderId=it's $HOME") && tail.includes("--since=-10m") && tail.includes("--sse"));
  assert.ok(words(snippet("wscat", ASKED, "https://h:1")).at(-1).startsWith("wss://h:1/ws/telemetry?"));
  assert.deepEqual(JSON.parse(words(publishSnippet("p", { a: "it's" }, "http://h"))[6]), { a: "it's" });
});

test("every kind of copy names the service and each channel", () => {
  for (const kind of KINDS) {
    const text = snippet(kind, { ...ASKED, channels: ["positions"] }, "https://h:1");
    assert.ok(text.includes("//h:1") && text.includes("positions"), text);
  }
});

test("programs that are copied are programs", () => {
  execFileSync("node", ["--check", "--input-type=module", "-"], { input: snippet("javascript", ASKED, "http://h:1") });
  const python = snippet("python", ASKED, "http://h:1");
  execFileSync("python3", ["-c", "import ast, sys; ast.parse(sys.stdin.read())"], { input: python });
  assert.match(python, /follow\("\*", "positions", since="-10m", delivery="all", traderId=/);
});

test("a payload has the types of its schema, and what is left out is not there", () => {
  const rules = {
    price: { type: "string" }, size: { type: ["number", "null"] }, on: { type: "boolean" }, side: { type: "string", enum: ["A", "B"] },
    list: { type: "array" }, at: { type: "string", format: "date-time" },
  };
  assert.deepEqual(Object.values(rules).map(kindOf), ["text", "number", "switch", "choice", "json", "time"]);
  const fields = (texts) => Object.entries(texts).map(([name, text]) => [name, rules[name], text]);
  assert.deepEqual(
    payloadOf(fields({ price: "0.10", size: "2", on: "false", side: "B", list: "[1]", at: "" }), ["price"]),
    { price: "0.10", size: 2, on: false, side: "B", list: [1] },
  );
  assert.throws(() => payloadOf(fields({ price: "" }), ["price"]), /price is missing/);
  assert.throws(() => payloadOf(fields({ list: "[" }), []), /no valid JSON/);
  assert.throws(() => payloadOf(fields({ size: "x" }), []), /no number/);
});
