// Runs the Worker in Miniflare 4 or 5 by its JavaScript API, with a connection string.
// Arguments: the installed package's folder, the port, the indexes by binding as JSON.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const [folder, port, indexes, connection] = process.argv.slice(2);
const { Miniflare, convertV4MiniflareOptions } = createRequire(`${folder}/`)("miniflare");
const { connectionString } = createRequire(connection)(connection);

const bound = JSON.parse(indexes);
const remoteProxyConnectionString = connectionString(bound);
const read = (name) => readFileSync(new URL(name, import.meta.url), "utf8");
const options = {
  host: "127.0.0.1",
  port: Number(port),
  compatibilityDate: "2026-04-01",
  modules: [
    { type: "ESModule", path: "index.js", contents: read("index.js") },
    { type: "ESModule", path: "perform.js", contents: read("perform.js") },
  ],
  vectorize: Object.fromEntries(
    Object.entries(bound).map(([name, index_name]) => [name, { index_name, remoteProxyConnectionString }]),
  ),
  ai: { binding: "AI", remoteProxyConnectionString },
};
const miniflare = new Miniflare(convertV4MiniflareOptions?.(options) ?? options);
await miniflare.ready;
