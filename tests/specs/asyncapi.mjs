// Reads an AsyncAPI document from standard input; ends with 1 and what is wrong, if anything is.
import { readFileSync } from "node:fs";
import { Parser } from "@asyncapi/parser";

const { document, diagnostics } = await new Parser().parse(readFileSync(0, "utf8"));
const wrong = diagnostics.filter((each) => each.severity === 0);
for (const each of wrong) console.error(each.code, each.path.join("."), each.message);
process.exit(document && wrong.length === 0 ? 0 : 1);
