/**
 * A map as the server sends it: a line of JSON, and the points behind it as raw float32.
 */
import { failure, indexPath, send } from "../core/api.js";

/**
 * @typedef {object} PointMap
 * @property {string[]} ids
 * @property {number} totalCount vectors of the scope; more than there are points where it is a sample
 * @property {string} layout
 * @property {number[]} explained share of the variance along each axis
 * @property {Float32Array} positions x and y of each point in turn
 * @property {Float32Array | null} values of the property: numbers, or places in `categories`
 * @property {string[] | null} categories
 * @property {Float32Array | null} scores to the query
 * @property {[number, number] | null} query the query's own place
 */

/**
 * @param {ArrayBuffer} buffer
 * @returns {PointMap}
 */
export function parseMap(buffer) {
  const bytes = new Uint8Array(buffer);
  const end = bytes.indexOf(10);
  const head = JSON.parse(new TextDecoder().decode(bytes.subarray(0, end)));
  const floats = new Float32Array((end + 1) % 4 === 0 ? buffer : buffer.slice(end + 1), (end + 1) % 4 === 0 ? end + 1 : 0);
  const { count } = head;
  let start = 2 * count;
  const column = (isThere) => {
    if (!isThere) return null;
    start += count;
    return floats.subarray(start - count, start);
  };
  return {
    ids: head.ids,
    totalCount: head.totalCount,
    layout: head.layout,
    explained: head.explained,
    positions: floats.subarray(0, 2 * count),
    values: column(head.hasValues),
    categories: head.categories,
    scores: column(head.query !== null),
    query: head.query,
  };
}

/**
 * @param {string} account
 * @param {string} name
 * @param {object} body
 * @param {AbortSignal} signal
 */
export async function loadMap(account, name, body, signal) {
  const response = await send(`${indexPath(account, name)}/vectors/map`, { body, signal });
  if (!response.ok) throw await failure(response);
  return parseMap(await response.arrayBuffer());
}
