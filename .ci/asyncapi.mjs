// Exit 1 if the document is no valid AsyncAPI, or its parser has a warning about it.
import { readFile } from 'node:fs/promises';
import { Parser } from '@asyncapi/parser';

const SEVERITIES = ['error', 'warning', 'information', 'hint'];
const [path] = process.argv.slice(2);
const { document, diagnostics } = await new Parser().parse(await readFile(path, 'utf8'));
const found = diagnostics.filter((one) => one.severity <= 1);
for (const one of found) console.error(`${path}: ${SEVERITIES[one.severity]} at ${one.path.join('.')}: ${one.message}`);
if (!document || found.length > 0) process.exit(1);
