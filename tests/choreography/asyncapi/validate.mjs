// Validates the AsyncAPI document on standard input with the official parser; prints what is wrong, a line each.
import { readFileSync } from "node:fs";
import { Parser } from "@asyncapi/parser";
import avro from "@asyncapi/avro-schema-parser";

const parser = new Parser();
parser.registerSchemaParser((avro.AvroSchemaParser ?? avro.default?.AvroSchemaParser ?? avro)());
const { document, diagnostics } = await parser.parse(readFileSync(0, "utf8"));
const wrong = diagnostics.filter((each) => each.severity === 0);
for (const each of wrong) console.log(`${each.path.join(".")}: ${each.message}`);
if (document) console.log(`messages: ${document.messages().length}, operations: ${document.operations().length}`);
process.exit(document && wrong.length === 0 ? 0 : 1);
