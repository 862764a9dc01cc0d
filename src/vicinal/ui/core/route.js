/**
 * The address of the page: everything that it shows can be read from, and is written to, the part
 * of the URL behind `#`, like `#/browse/docs?namespace=n`. A link to it shows the same.
 */
import { useEffect, useState } from "./html.js";
import { session } from "./session.js";

/**
 * @typedef {object} Route
 * @property {string} page
 * @property {string[]} parts of the path behind the page, decoded
 * @property {Record<string, string>} params
 */

/** @param {string} hash @returns {Route} */
export function parse(hash) {
  const [path, query = ""] = hash.replace(/^#\/?/, "").split(/\?(.*)/s);
  const [page, ...parts] = path.split("/").map(decoded);
  return { page: page || "indexes", parts, params: Object.fromEntries(new URLSearchParams(query)) };
}

/** @param {string} text */
function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/**
 * Return the address of a page; the account goes along where it is not the usual one.
 * @param {string} page
 * @param {string[]} [parts]
 * @param {Record<string, unknown>} [params] empty ones are left out
 */
export function link(page, parts = [], params = {}) {
  const kept = Object.entries({ account: current().params.account, ...params }).filter(
    ([, value]) => value !== undefined && value !== null && value !== "",
  );
  const query = new URLSearchParams(kept.map(([name, value]) => [name, String(value)])).toString();
  const path = [page, ...parts].map(encodeURIComponent).join("/");
  return `#/${path}${query ? `?${query}` : ""}`;
}

/** The address that is shown now. */
export const current = () => parse(location.hash);

/** The account that is shown. */
export function account() {
  const { caller } = session;
  return caller?.account ?? current().params.account ?? caller?.defaultAccount ?? "local";
}

/** @param {string} page @param {string[]} [parts] @param {Record<string, unknown>} [params] */
export function go(page, parts, params) {
  location.hash = link(page, parts, params);
}

/**
 * Change parameters of the address without leaving the page, and without a step in the history.
 * @param {Record<string, unknown>} changes
 */
export function setParams(changes) {
  const { page, parts, params } = current();
  history.replaceState(null, "", link(page, parts, { ...params, ...changes }));
  dispatchEvent(new HashChangeEvent("hashchange"));
}

/** @returns {Route} */
export function useRoute() {
  const [route, setRoute] = useState(current);
  useEffect(() => {
    const changed = () => setRoute(current());
    addEventListener("hashchange", changed);
    return () => removeEventListener("hashchange", changed);
  }, []);
  return route;
}
