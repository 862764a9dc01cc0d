"use strict";
// Which account the project names: `account_id` in wrangler's configuration.
//
// wrangler uses it before the environment, so its commands go to that account, and bindings
// have to go there too. The configuration is read by the wrangler that the process has loaded:
// only it knows how files are found, environments inherit and TOML is spelled. A process
// without wrangler runs no project of wrangler's, and names no account.

const { existsSync } = require("node:fs");

const MODULE = /[\\/]wrangler[\\/]wrangler-dist[\\/]cli\.js$/;
const VALUED = { "-c": "config", "--config": "config", "-e": "env", "--env": "env", "--cwd": "cwd" };
const OTHERS_VALUED = ["--env-file", "--profile"];

let readConfig;
let isRead = false;
const named = new Set();

/** Look at each configuration that a program has the just loaded wrangler read. */
function watch(exports) {
  if (typeof exports.unstable_readConfig !== "function") return;
  readConfig = exports.unstable_readConfig;
  replace(exports, "unstable_readConfig", (original) => (...given) => {
    const config = original(...given);
    note(config);
    return config;
  });
  replace(exports, "getPlatformProxy", (original) => (options = {}, ...others) => {
    read({ config: options.configPath, env: options.environment });
    return original(options, ...others);
  });
}

function replace(exports, name, made) {
  const { value, writable } = Object.getOwnPropertyDescriptor(exports, name) ?? {};
  if (writable && typeof value === "function") exports[name] = made(value);
}

function note(config) {
  isRead = true;
  if (config.account_id) named.add(config.account_id);
}

function read(from) {
  try {
    note(readConfig(from, { hideWarnings: true }));
  } catch {
    // A configuration that cannot be read is wrangler's to complain of, and it does.
  }
}

/** Return the accounts that the Workers of this process name: none, one, or several by mistake. */
function namedAccounts() {
  // wrangler's command line reads its configuration without being asked for it.
  if (readConfig !== undefined && !isRead) {
    const { words, options } = commandLine() ?? { words: [], options: {} };
    const script = words[0] === "dev" ? words.slice(1).find((word) => existsSync(word)) : undefined;
    const env = options.env?.at(-1);
    for (const config of options.config ?? [undefined]) read({ config, env, script });
  }
  return [...named];
}

/** Return what wrangler was told when this process is its command line, else undefined. */
function commandLine(argv = process.argv) {
  if (!MODULE.test(argv[1] ?? "")) return undefined;
  const options = {};
  const words = [];
  const left = argv.slice(2);
  while (left.length > 0) {
    const word = left.shift();
    if (word === "--") break;
    const [, name, value] = /^(--[^=]+|-[a-z])=?(.*)$/s.exec(word) ?? [];
    if (name === undefined) words.push(word);
    else if (name in VALUED) (options[VALUED[name]] ??= []).push(value || left.shift());
    else if (OTHERS_VALUED.includes(name) && !value) left.shift();
  }
  return { words, options };
}

module.exports = { MODULE, watch, namedAccounts, commandLine };
