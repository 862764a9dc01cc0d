/**
 * What an action of the dashboard is in other hands: curl, the Python and the npm SDK, wrangler.
 *
 * An action is described once, where it is done; these functions write it out.
 */
import { accountPath, indexesPath, indexPath, ROOT } from "./api.js";

/**
 * @typedef {object} Action
 * @property {string} method
 * @property {string} path below the server's folder
 * @property {unknown} [body]
 * @property {Record<string, string>} [headers]
 * @property {string} [python] a call of the official SDK, where it has one
 * @property {string} [npm]
 * @property {string} [wrangler]
 */

const API = "client/v4";

/** @param {string} text */
const quoted = (text) => `'${text.replaceAll("'", `'\\''`)}'`;

/** @param {unknown} value as Python writes it */
function python(value) {
  if (value === null || value === undefined) return "None";
  if (value === true) return "True";
  if (value === false) return "False";
  if (Array.isArray(value)) return `[${value.map(python).join(", ")}]`;
  if (typeof value === "object") {
    return `{${Object.entries(value).map(([name, inner]) => `${JSON.stringify(name)}: ${python(inner)}`).join(", ")}}`;
  }
  return JSON.stringify(value);
}

/** @param {Action} action */
function curl({ method, path, body, headers = {} }) {
  const lines = [`curl -X ${method} ${quoted(new URL(path, ROOT).href)}`, `-H "Authorization: Bearer $TOKEN"`];
  for (const [name, value] of Object.entries(headers)) lines.push(`-H ${quoted(`${name}: ${value}`)}`);
  if (body !== undefined) lines.push(`-H 'Content-Type: application/json' --data ${quoted(JSON.stringify(body))}`);
  return lines.join(" \\\n  ");
}

/** @param {Action} action */
function pythonCall(action) {
  const base = new URL(API, ROOT).href;
  const start = `from cloudflare import Cloudflare\n\nclient = Cloudflare(base_url=${JSON.stringify(base)}, api_token="TOKEN")\n`;
  if (action.python) return start + action.python;
  const path = JSON.stringify(action.path.replace(API, ""));
  const body = action.body === undefined ? "" : `, body=${python(action.body)}`;
  return `${start}client.${action.method.toLowerCase()}(${path}${body}, cast_to=object)`;
}

/** @param {Action} action */
function npmCall(action) {
  const base = new URL(API, ROOT).href;
  const start = `import Cloudflare from "cloudflare";\n\nconst client = new Cloudflare({ baseURL: ${JSON.stringify(base)}, apiToken: "TOKEN" });\n`;
  if (action.npm) return start + action.npm;
  const path = JSON.stringify(action.path.replace(API, ""));
  const body = action.body === undefined ? "" : `, { body: ${JSON.stringify(action.body)} }`;
  return `${start}await client.${action.method.toLowerCase()}(${path}${body});`;
}

/**
 * Return an action in all forms; wrangler has no command for some.
 * @param {Action} action
 * @param {string} account
 * @returns {[name: string, text: string][]}
 */
export function forms(action, account) {
  const base = new URL(API, ROOT).href;
  const wrangler = action.wrangler
    ? `CLOUDFLARE_API_BASE_URL=${base} CLOUDFLARE_API_TOKEN=$TOKEN CLOUDFLARE_ACCOUNT_ID=${account} \\\n  npx wrangler vectorize ${action.wrangler}`
    : "# wrangler has no command for this: it is an extension of Vicinal.";
  return [
    ["curl", curl(action)],
    ["Python", pythonCall(action)],
    ["npm", npmCall(action)],
    ["wrangler", wrangler],
  ];
}

/** @param {string} account @returns {Action} */
export const listIndexes = (account) => ({
  method: "GET",
  path: indexesPath(account),
  python: `for index in client.vectorize.indexes.list(account_id=${python(account)}):\n    print(index.name)`,
  npm: `for await (const index of client.vectorize.indexes.list({ account_id: ${JSON.stringify(account)} })) console.log(index.name);`,
  wrangler: "list",
});

/** @param {string} account @param {{name: string, description?: string, config: any}} body @returns {Action} */
export function createIndex(account, body) {
  const { dimensions, metric, preset } = body.config;
  const size = preset ? `--preset=${preset}` : `--dimensions=${dimensions} --metric=${metric}`;
  return {
    method: "POST",
    path: indexesPath(account),
    body,
    python: `client.vectorize.indexes.create(account_id=${python(account)}, name=${python(body.name)}, config=${python(body.config)})`,
    npm: `await client.vectorize.indexes.create({ account_id: ${JSON.stringify(account)}, name: ${JSON.stringify(body.name)}, config: ${JSON.stringify(body.config)} });`,
    wrangler: `create ${body.name} ${size}`,
  };
}

/** @param {string} account @param {string} name @returns {Action} */
export const deleteIndex = (account, name) => ({
  method: "DELETE",
  path: indexPath(account, name),
  python: `client.vectorize.indexes.delete(${python(name)}, account_id=${python(account)})`,
  npm: `await client.vectorize.indexes.delete(${JSON.stringify(name)}, { account_id: ${JSON.stringify(account)} });`,
  wrangler: `delete ${name}`,
});

/** @param {string} account @param {string} name @param {string} property @param {string} type @param {boolean} backfill @returns {Action} */
export const createMetadataIndex = (account, name, property, type, backfill) => ({
  method: "POST",
  path: `${indexPath(account, name)}/metadata_index/create`,
  body: { propertyName: property, indexType: type, ...(backfill ? { backfill } : {}) },
  python: `client.vectorize.indexes.metadata_index.create(${python(name)}, account_id=${python(account)}, property_name=${python(property)}, index_type=${python(type)}${backfill ? `, extra_body={"backfill": True}` : ""})`,
  wrangler: `create-metadata-index ${name} --propertyName=${property} --type=${type}`,
});

/** @param {string} account @param {string} name @param {any} body @param {Record<string, string>} headers @returns {Action} */
export function query(account, name, body, headers) {
  const what = body.vectorId ? `--vector-id=${body.vectorId}` : `--vector ${(body.vector ?? []).join(" ")}`;
  return {
    method: "POST",
    path: `${indexPath(account, name)}/query`,
    body,
    headers,
    npm: `await client.vectorize.indexes.query(${JSON.stringify(name)}, { account_id: ${JSON.stringify(account)}, ${JSON.stringify(body).slice(1, -1)} });`,
    wrangler: `query ${name} ${what} --top-k=${body.topK}${body.filter ? ` --filter=${quoted(JSON.stringify(body.filter))}` : ""}`,
  };
}

/** @param {string} account @param {string} name @param {string[]} ids @returns {Action} */
export const deleteVectors = (account, name, ids) => ({
  method: "POST",
  path: `${indexPath(account, name)}/delete_by_ids`,
  body: { ids },
  python: `client.vectorize.indexes.delete_by_ids(${python(name)}, account_id=${python(account)}, ids=${python(ids)})`,
  npm: `await client.vectorize.indexes.deleteByIDs(${JSON.stringify(name)}, { account_id: ${JSON.stringify(account)}, ids: ${JSON.stringify(ids)} });`,
  wrangler: `delete-vectors ${name} --ids ${ids.join(" ")}`,
});

/** @param {string} account @param {string} name @param {string} operation of ours @param {unknown} body @returns {Action} */
export const scoped = (account, name, operation, body) => ({
  method: "POST",
  path: `${indexPath(account, name)}/vectors/${operation}`,
  body,
});

/** @param {string} account @param {string} model @param {string} text @returns {Action} */
export const embedding = (account, model, text) => ({
  method: "POST",
  path: `${accountPath(account)}/ai/run/${model}`,
  body: { text: [text] },
});
