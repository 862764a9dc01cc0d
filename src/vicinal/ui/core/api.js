/**
 * The server's API. Every request of the dashboard goes through `ask`, to the server that the page
 * came from and nowhere else.
 *
 * Addresses are relative to the folder that `ui/` is in, so a proxy may put both below any path. Names in
 * them may come out of a link that somebody made: one that would lead to another operation, as `..` does,
 * is asked for nothing.
 */
import { session } from "./session.js";

/** The folder of the server: this file is `ui/VERSION/core/api.js` below it. */
export const ROOT = new URL("../../../", import.meta.url);

/** An answer that is no success: the status, the code and the text that the server gave. */
export class ApiError extends Error {
  /** @param {number} status @param {number} code @param {string} message */
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

/**
 * @typedef {object} Options
 * @property {string} [method] POST where there is a body, else GET
 * @property {unknown} [body] sent as JSON, unless it is text or bytes
 * @property {Record<string, string>} [headers]
 * @property {AbortSignal} [signal]
 */

/**
 * Return the address of a path below the server's folder.
 * @param {string} path
 * @throws {Error} it leads elsewhere
 */
function addressOf(path) {
  const [names] = path.split(/[?#]/, 1);
  const leadsUp = names.split(/[/\\]/).some((name) => /^(\.|%2e){1,2}$/i.test(name));
  const address = new URL(path, ROOT);
  if (leadsUp || !address.href.startsWith(ROOT.href)) throw new Error(`"${names}" is no address of this server`);
  return address;
}

/**
 * Send a request and return the response, whatever its status.
 * @param {string} path below the server's folder, without a slash in front
 * @param {Options} [options]
 */
export async function send(path, options = {}) {
  const { body, signal } = options;
  const isRaw = typeof body === "string" || body instanceof Blob || body instanceof Uint8Array;
  /** @type {Record<string, string>} */
  const headers = { ...options.headers };
  if (session.token) headers.authorization = `Bearer ${session.token}`;
  if (body !== undefined && !isRaw) headers["content-type"] ??= "application/json";
  return fetch(addressOf(path), {
    method: options.method ?? (body === undefined ? "GET" : "POST"),
    headers,
    body: body === undefined ? undefined : isRaw ? /** @type {BodyInit} */ (body) : JSON.stringify(body),
    signal,
    cache: "no-store",
  });
}

/**
 * Return the error of a response that is no success.
 * @param {Response} response
 */
export async function failure(response) {
  const text = await response.text();
  let code = 0;
  let message = text.slice(0, 500) || response.statusText;
  try {
    const [error] = JSON.parse(text).errors;
    ({ code, message } = error);
  } catch {
    // An answer of a proxy, as it is.
  }
  if (response.status === 401) session.lock(message);
  return new ApiError(response.status, code, message);
}

/**
 * Return the result of an operation and the server's messages beside it.
 * @param {string} path
 * @param {Options} [options]
 * @returns {Promise<{result: any, messages: {code: number, message: string}[]}>}
 */
export async function askWithMessages(path, options) {
  const response = await send(path, options);
  if (!response.ok) throw await failure(response);
  const { result, messages } = await response.json();
  return { result, messages };
}

/**
 * Return the result of an operation.
 * @param {string} path
 * @param {Options} [options]
 * @returns {Promise<any>}
 */
export async function ask(path, options) {
  return (await askWithMessages(path, options)).result;
}

/**
 * Return the text of a route that is not in the envelope, such as the metrics.
 * @param {string} path
 * @param {AbortSignal} [signal]
 */
export async function askText(path, signal) {
  const response = await send(path, { signal });
  if (!response.ok) throw await failure(response);
  return response.text();
}

/** The path of an account's resources. @param {string} account */
export const accountPath = (account) => `client/v4/accounts/${encodeURIComponent(account)}`;

/** The path of an account's indexes. @param {string} account */
export const indexesPath = (account) => `${accountPath(account)}/vectorize/v2/indexes`;

/** The path of an index. @param {string} account @param {string} name */
export const indexPath = (account, name) => `${indexesPath(account)}/${encodeURIComponent(name)}`;

/** The name of a model in a path, which has slashes. @param {string} model */
export const modelPath = (model) => model.split("/").map(encodeURIComponent).join("/").replaceAll("%40", "@");

/** Headers that let a write be answered once queries see it. */
export const WAIT = { prefer: "wait=10" };

/**
 * Return the vector of a text.
 * @param {string} account
 * @param {string} model
 * @param {string} text
 * @param {AbortSignal} [signal]
 * @returns {Promise<number[]>}
 */
export async function embed(account, model, text, signal) {
  const path = `${accountPath(account)}/ai/run/${modelPath(model)}`;
  return (await ask(path, { body: { text: [text] }, signal })).data[0];
}

/**
 * Have the browser fetch a file by itself, so that it goes to the disk and not through the memory.
 * @param {string} path whose query has a ticket, as no token goes along
 * @param {string} name
 */
export function fetchFile(path, name) {
  Object.assign(document.createElement("a"), { href: addressOf(path).href, download: name }).click();
}

/**
 * Save bytes as a file of the person's.
 * @param {Blob} blob
 * @param {string} name
 */
export function save(blob, name) {
  const url = URL.createObjectURL(blob);
  const anchor = Object.assign(document.createElement("a"), { href: url, download: name });
  anchor.click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}
