"use strict";
// Points every Vectorize and AI binding that Miniflare runs at a Vicinal server.
//
//     NODE_OPTIONS="--require /path/to/hook.cjs" npx wrangler dev
//
// wrangler, Vite's plugin, Vitest's pool and getPlatformProxy all run Workers in Miniflare.
// This file waits for Miniflare to be loaded and puts a subclass in its place, which adds the
// server's address to these bindings and changes nothing else. `connection.cjs` says where
// the server is found.

const Module = require("node:module");
const { connectionString, target } = require("./connection.cjs");
const report = require("./report.cjs");
const wrangler = require("./wrangler.cjs");

const MINIFLARE = /[\\/]miniflare[\\/]dist[\\/]src[\\/]index\.js$/;
const PROBE_MS = 5_000;

// Every way to load a CommonJS file ends here, an import included. The handlers of
// `Module._extensions` do not see all of them: tsx puts its own in their place.
const compile = Module.prototype._compile;
Module.prototype._compile = function (content, filename, ...others) {
  const result = compile.call(this, content, filename, ...others);
  // tsx adds a query to what it has imported.
  const [file] = String(filename).split("?", 1);
  if (MINIFLARE.test(file) && typeof this.exports.Miniflare === "function") {
    this.exports = withPointedBindings(this.exports);
    report.loaded();
  } else if (wrangler.MODULE.test(file)) {
    wrangler.watch(this.exports);
  }
  return result;
};
report.begin();

/** Return Miniflare's exports with its class replaced. The originals are read-only getters. */
function withPointedBindings(exports) {
  const point = (options) => pointed(options, exports.convertV4MiniflareOptions);
  class Miniflare extends exports.Miniflare {
    constructor(options, ...others) {
      super(point(options), ...others);
    }
    setOptions(options, ...others) {
      return super.setOptions(point(options), ...others);
    }
  }
  const replaced = Object.getOwnPropertyDescriptors(exports);
  replaced.Miniflare = { value: Miniflare, enumerable: true };
  return Object.create(Object.getPrototypeOf(exports), replaced);
}

/** Return a copy of Miniflare's options whose Vectorize and AI bindings lead to the server. */
function pointed(options, convert) {
  // Options for one Worker may stand where those of many have a list of Workers.
  const workers = options.workers ?? [options];
  const changed = workers.map((worker) =>
    worker.config === undefined ? pointedV4(worker) : pointedV5(worker, convert),
  );
  if (changed.some((worker, position) => worker !== workers[position])) sayIfUnreachable();
  else report.nothingToPoint(workers);
  return options.workers === undefined ? changed[0] : { ...options, workers: changed };
}

let isTold = false;

/**
 * Return the server, and the account that bindings are to be in.
 *
 * VICINAL_ACCOUNT says it; `vicinal run` sets that too, to what it has found in the folder,
 * and then the configuration that this process really reads is the better source.
 */
function here() {
  const { VICINAL_ACCOUNT, VECTORIZE_ACCOUNT, _VICINAL_ACCOUNT_FOUND } = process.env;
  const given = VICINAL_ACCOUNT || VECTORIZE_ACCOUNT;
  if (given && given !== _VICINAL_ACCOUNT_FOUND) return target();
  const accounts = wrangler.namedAccounts();
  if (accounts.length > 1 && !isTold) {
    isTold = true;
    console.warn(
      `[vicinal] The configurations of these Workers name several accounts (${accounts.join(", ")}). ` +
        `All bindings use ${accounts[0]}; VICINAL_ACCOUNT names another.`,
    );
  }
  return accounts.length > 0 ? { ...target(), account: accounts[0] } : target();
}

/** Miniflare 4: each binding has a connection of its own. */
function pointedV4(worker) {
  const { vectorize, ai } = worker;
  // wrangler gives an empty object where a Worker has no index.
  if (Object.keys(vectorize ?? {}).length === 0 && ai === undefined) return worker;
  const changed = { ...worker };
  if (vectorize !== undefined) {
    changed.vectorize = Object.fromEntries(
      Object.entries(vectorize).map(([name, binding]) => {
        const remoteProxyConnectionString = connectionString({ [name]: binding.index_name }, here());
        return [name, { ...binding, remoteProxyConnectionString }];
      }),
    );
  }
  if (ai !== undefined) {
    changed.ai = { ...ai, remoteProxyConnectionString: connectionString({}, here()) };
  }
  return changed;
}

/** Miniflare 5: a Worker has one connection, and each binding says whether it uses it. */
function pointedV5(worker, convert) {
  const env = Object.entries(worker.config.env ?? {});
  const ours = env.filter(([, { type }]) => type === "vectorize" || type === "ai");
  if (ours.length === 0) return worker;
  warnOfOthers(worker, env.filter((entry) => !ours.includes(entry)));
  const indexes = Object.fromEntries(
    ours.filter(([, { type }]) => type === "vectorize").map(([name, { name: index }]) => [name, index]),
  );
  const mark = remoteMark(convert);
  const pointedEnv = Object.fromEntries(ours.map(([name, binding]) => [name, mark(binding)]));
  return {
    ...worker,
    config: { ...worker.config, env: { ...worker.config.env, ...pointedEnv } },
    dev: { ...worker.dev, remoteProxyConnectionString: connectionString(indexes, here()) },
  };
}

/**
 * Return what marks a binding as remote.
 *
 * Releases before 5.0 spell it in two ways; Miniflare's own converter knows which is its.
 */
function remoteMark(convert) {
  const converted = convert({
    modules: true,
    script: "",
    ai: { binding: "AI", remoteProxyConnectionString: connectionString() },
  });
  const { remote } = converted.workers[0].config.env.AI;
  if (remote !== undefined) return (binding) => ({ ...binding, remote });
  return (binding) => ({ ...binding, dev: { ...binding.dev, remote: true } });
}

function warnOfOthers(worker, others) {
  const names = others
    .filter(([, binding]) => binding.remote === true || binding.dev?.remote === true)
    .map(([name]) => name);
  if (names.length > 0) {
    console.warn(
      `[vicinal] The Worker ${JSON.stringify(worker.config.name)} has other remote bindings ` +
        `(${names.join(", ")}). This version of Miniflare has one connection for all remote ` +
        "bindings of a Worker, so they cannot be used along with Vicinal.",
    );
  }
}

let isAsked = false;

/** Ask the server once whether it is there, and say in the terminal when it is not. */
function sayIfUnreachable() {
  if (isAsked) return;
  isAsked = true;
  const { url } = target();
  fetch(`${url}/healthz`, { signal: AbortSignal.timeout(PROBE_MS) }).then(
    (answer) => answer.body?.cancel(),
    (error) =>
      console.error(
        `[vicinal] No server answers at ${url} (${error.cause?.code ?? error.message}): calls to ` +
          "Vectorize and AI bindings will fail. Start one with `vicinal serve`, or set VICINAL_URL.",
      ),
  );
}
