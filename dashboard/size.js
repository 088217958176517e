// Checks the compressed size of each page: its own scripts and styles and everything that they import.
import { readFileSync } from "node:fs";
import { gzipSync } from "node:zlib";

const MOST_KB = { js: 160, css: 15 };

const folder = new URL("dist/", import.meta.url);
const manifest = JSON.parse(readFileSync(new URL(".vite/manifest.json", folder)));
const chunks = Object.values(manifest);
const entry = chunks.find((chunk) => chunk.isEntry);

/** The files of a chunk and of its static imports. */
function filesOf(chunk, found = new Set()) {
  if (found.has(chunk.file)) return found;
  for (const file of [chunk.file, ...(chunk.css ?? [])]) found.add(file);
  for (const name of chunk.imports ?? []) filesOf(manifest[name], found);
  return found;
}

const packed = new Map();
function sizeOf(file) {
  if (!packed.has(file)) packed.set(file, gzipSync(readFileSync(new URL(file, folder)), { level: 9 }).length / 1000);
  return packed.get(file);
}

for (const [kind, most] of Object.entries(MOST_KB)) {
  const pages = chunks
    .filter((chunk) => chunk.isEntry || chunk.isDynamicEntry)
    .map((chunk) => {
      const files = [...filesOf(chunk, filesOf(entry))].filter((file) => file.endsWith(`.${kind}`));
      return { name: chunk.src, size: files.reduce((sum, file) => sum + sizeOf(file), 0) };
    });
  const largest = pages.reduce((a, b) => (a.size > b.size ? a : b));
  console.log(`${kind}: ${largest.size.toFixed(1)} kB of ${most} kB, gzip, at most (${largest.name})`);
  if (largest.size > most) process.exitCode = 1;
}
