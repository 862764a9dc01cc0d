// A server for a Vitest run, as a global set-up:
//
//     // test/setup.ts, named in the config's `globalSetup`
//     import { vicinal } from "vicinal/vitest";
//     export default vicinal({ indexes: { docs: { dimensions: 384, metric: "cosine" } } });
//
// It starts `vicinal serve` on a free port with its data in a temporary folder, or uses the
// server that VICINAL_URL names. Either way the run has an account of its own. The hook, loaded
// in the same process, points the bindings at it; tests get it by `inject("vicinal")`.

import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, openSync, closeSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import connection from "./connection.cjs";

const READY_WITHIN_MS = 60_000;
const STOPPED_WITHIN_MS = 10_000;
const POLL_MS = 20;

/** Return a global set-up that starts a server with these indexes. */
export function vicinal({ indexes = {}, command = ["vicinal"] } = {}) {
  return async function setup(project) {
    const given = process.env.VICINAL_URL ? connection.target() : undefined;
    const started = given ? undefined : await start(command);
    const server = {
      ...(given ?? started.server),
      account: `vitest-${randomBytes(8).toString("hex")}`,
      indexes: Object.keys(indexes),
    };
    // The hook reads these when Miniflare is started, which is after this.
    const before = { ...process.env };
    process.env.VICINAL_URL = server.url;
    process.env.VICINAL_TOKEN = server.token;
    process.env.VICINAL_ACCOUNT = server.account;
    try {
      await create(server, indexes);
    } catch (error) {
      await started?.stop();
      throw error;
    }
    project.provide("vicinal", server);
    return async () => {
      for (const name of ["VICINAL_URL", "VICINAL_TOKEN", "VICINAL_ACCOUNT"]) {
        if (before[name] === undefined) delete process.env[name];
        else process.env[name] = before[name];
      }
      for (const name of server.indexes) await ask(server, "DELETE", `/${name}`);
      await started?.stop();
    };
  };
}

async function create(server, indexes) {
  for (const [name, { metadataIndexes = {}, ...config }] of Object.entries(indexes)) {
    await ask(server, "POST", "", { name, config });
    for (const [propertyName, indexType] of Object.entries(metadataIndexes)) {
      await ask(server, "POST", `/${name}/metadata_index/create`, { propertyName, indexType });
    }
  }
}

async function ask({ url, token, account }, method, path, body) {
  const answer = await fetch(`${url}/client/v4/accounts/${account}/vectorize/v2/indexes${path}`, {
    method,
    headers: { authorization: `Bearer ${token}`, prefer: "wait=10" },
    body: body && JSON.stringify(body),
  });
  const { errors, result } = await answer.json();
  if (answer.ok) return result;
  throw new Error(errors.map(({ code, message }) => `${message} [code: ${code}]`).join("; "));
}

/** Start a server and wait until it answers. */
async function start([program, ...its]) {
  const folder = mkdtempSync(join(tmpdir(), "vicinal-"));
  const log = join(folder, "server.log");
  const output = openSync(log, "w");
  const port = await freePort();
  const server = { url: `http://127.0.0.1:${port}`, token: randomBytes(16).toString("hex") };
  const process_ = spawn(
    program,
    [...its, "serve", "--quiet", "--host", "127.0.0.1", "--port", `${port}`, "--data", join(folder, "data")],
    { cwd: folder, env: { ...process.env, VICINAL_TOKEN: server.token }, stdio: ["ignore", output, output] },
  );
  closeSync(output);
  let failure;
  process_.once("error", (error) => (failure = `${program} could not be started: ${error.message}`));
  process_.once("exit", (status) => (failure ??= `${program} ended with status ${status}`));
  const stop = async () => {
    if (process_.exitCode === null && process_.pid !== undefined) {
      const ended = new Promise((resolve) => process_.once("exit", resolve));
      process_.kill();
      const timer = setTimeout(() => process_.kill("SIGKILL"), STOPPED_WITHIN_MS);
      await ended;
      clearTimeout(timer);
    }
    rmSync(folder, { recursive: true, force: true });
  };
  const end = Date.now() + READY_WITHIN_MS;
  while (!(await answers(server))) {
    failure ??= Date.now() > end ? `${server.url} does not answer` : undefined;
    if (failure !== undefined) {
      const output = readFileSync(log, "utf8");
      await stop();
      throw new Error(`The Vicinal server did not start: ${failure}\n${output}`);
    }
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
  return { server, stop };
}

async function answers({ url, token }) {
  try {
    // With the token, so that whoever else may listen on the port is not taken for it.
    const answer = await fetch(`${url}/client/v4/user/tokens/verify`, {
      headers: { authorization: `Bearer ${token}` },
    });
    await answer.body?.cancel();
    return answer.ok;
  } catch {
    return false;
  }
}

function freePort() {
  return new Promise((resolve, reject) => {
    const probe = createServer();
    probe.once("error", reject);
    probe.listen(0, "127.0.0.1", () => {
      const { port } = probe.address();
      probe.close(() => resolve(port));
    });
  });
}
