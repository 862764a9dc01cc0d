"use strict";
// Says when the hook was loaded for nothing: in one line, once for all processes of a command.
//
// NODE_OPTIONS loads the hook into every process of a command, npm's and wrangler's own
// included, and one of them may run a Worker. So the first process, which the others descend
// from, names a file in the environment; whoever loads Miniflare makes it, and the first
// process complains at its end when it is not there.

const { existsSync, rmSync, writeFileSync, writeSync } = require("node:fs");
const { randomBytes } = require("node:crypto");
const { tmpdir } = require("node:os");
const { basename, join } = require("node:path");
const { isMainThread } = require("node:worker_threads");
const { commandLine } = require("./wrangler.cjs");

const MARK = "_VICINAL_HOOK";
const STDERR = 2;

const MANAGER = /^(npm|pnpm|yarn|corepack)(-cli)?(\.c?js)?$/;
const RUNS = new Set(["exec", "x", "run", "run-script", "start", "test", "t", "dlx", "dev"]);
// wrangler's own, beside those of the project.
const PROXIES = new Set(["ProxyWorker", "InspectorProxyWorker"]);

/** Have the end of the first process watched. */
function begin() {
  if (process.env[MARK] !== undefined || !isMainThread) return;
  const mark = join(tmpdir(), `vicinal-hook-${randomBytes(12).toString("hex")}`);
  process.env[MARK] = mark;
  process.on("exit", () => {
    const isLoaded = existsSync(mark);
    rmSync(mark, { force: true });
    if (!isLoaded && runsPrograms()) {
      say("No Worker was run in Miniflare here, so nothing has used Vicinal.");
    }
  });
}

/** Tell whether this command is for a program that may run a Worker, and not for packages. */
function runsPrograms([, script, word] = process.argv) {
  if (script === undefined) return process.execArgv.some((option) => /^(-e|-p|-pe|--eval|--print)/.test(option));
  return !MANAGER.test(basename(script)) || RUNS.has(word);
}

/** Remember for all processes that Miniflare is here. */
function loaded() {
  try {
    writeFileSync(process.env[MARK], "");
  } catch {
    // The worst is a line too many.
  }
}

let isSaid = false;

/** Say that a Miniflare has no binding to point, where somebody may have meant that it has. */
function nothingToPoint(workers) {
  const command = commandLine();
  const isServing = command === undefined || /^(pages )?dev\b/.test(command.words.join(" "));
  const isProxy = workers.every(({ name, config }) => PROXIES.has(name ?? config?.name));
  if (isSaid || !isServing || isProxy) return;
  isSaid = true;
  say("No Worker here has a Vectorize or AI binding, so none uses Vicinal.");
}

function say(text) {
  try {
    writeSync(STDERR, `[vicinal] ${text}\n`);
  } catch {
    // Nobody listens.
  }
}

module.exports = { begin, loaded, nothingToPoint };
