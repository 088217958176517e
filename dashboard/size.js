// What a browser is sent, packed: checked against what the page may weigh.
import { readdirSync, readFileSync } from "node:fs";
import { gzipSync } from "node:zlib";

const MOST_KB = { js: 160, css: 15 };

const folder = new URL("dist/assets/", import.meta.url);
const names = readdirSync(folder);
let over = false;
for (const [kind, most] of Object.entries(MOST_KB)) {
  const files = names.filter((name) => name.endsWith(`.${kind}`));
  const size = files.reduce((sum, name) => sum + gzipSync(readFileSync(new URL(name, folder)), { level: 9 }).length, 0);
  console.log(`${kind}: ${(size / 1000).toFixed(1)} kB of ${most} kB, gzip`);
  over ||= size > most * 1000;
}
if (over) process.exitCode = 1;
