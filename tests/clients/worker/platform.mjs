// Calls the bindings that wrangler's getPlatformProxy gives to a Node process.
// Arguments: the installed package's folder, the port. The project is the working folder.
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { perform } from "./perform.js";

const [folder, port] = process.argv.slice(2);
const { getPlatformProxy } = createRequire(`${folder}/`)("wrangler");
const { env } = await getPlatformProxy({ remoteBindings: false, persist: false });

createServer(async (request, response) => {
  if (request.method !== "POST") return response.end("ready");
  let body = "";
  for await (const chunk of request) body += chunk;
  response.end(JSON.stringify(await perform(env, JSON.parse(body))));
}).listen(Number(port), "127.0.0.1");
