/**
 * What an action of the dashboard is in other hands: curl, the Python and the npm SDK, wrangler.
 *
 * An action is described once, where it is done; these functions write it out. Its names and ids are
 * whatever somebody has stored, and are pasted into a shell or a program: so each is quoted as a whole,
 * and what turns the direction of writing is escaped.
 */
import { accountPath, indexesPath, indexPath, modelPath, ROOT } from "./api.js";

/**
 * @typedef {object} Action
 * @property {string} method
 * @property {string} path below the server's folder
 * @property {unknown} [body]
 * @property {string} [file] whose content is the body
 * @property {string} [output] the name of the file that the answer is kept in
 * @property {Record<string, string>} [headers]
 * @property {string} [python] a call of the official SDK, where it has one
 * @property {string} [npm]
 * @property {string} [wrangler]
 * @property {string} [wranglerLacks] what its command does not do of this
 */

const API = "client/v4";

/** Signs that are not seen, or that turn what follows. */
const UNSEEN = /[\p{Cf}\u007f-\u009f\u2028\u2029]/gu;

/** @param {string} sign */
const escaped = (sign) => (sign.length > 1 ? sign : `\\u${sign.charCodeAt(0).toString(16).padStart(4, "0")}`);

/** A value as JSON, which JavaScript and, but for constants, Python read. @param {unknown} value */
const json = (value) => JSON.stringify(value).replaceAll(UNSEEN, escaped);

/** A text as one word of a shell. @param {string} text */
const quoted = (text) => `'${text.replaceAll("'", `'\\''`)}'`;

/** The same, without quotes where none are needed. @param {unknown} value */
const word = (value) => (/^[\w@%+=:,./-]+$/.test(String(value)) ? String(value) : quoted(String(value)));

/** @param {unknown} value as Python writes it */
function python(value) {
  if (value === null || value === undefined) return "None";
  if (value === true) return "True";
  if (value === false) return "False";
  if (Array.isArray(value)) return `[${value.map(python).join(", ")}]`;
  if (typeof value === "object") {
    return `{${Object.entries(value).map(([name, inner]) => `${json(name)}: ${python(inner)}`).join(", ")}}`;
  }
  return json(value);
}

/** @param {Action} action */
const hasHeaders = ({ headers }) => Object.keys(headers ?? {}).length > 0;

/** @param {Action} action */
function curl({ method, path, body, file, output, headers = {} }) {
  const lines = [`curl -X ${method} ${quoted(new URL(path, ROOT).href)}`, `-H "Authorization: Bearer $TOKEN"`];
  for (const [name, value] of Object.entries(headers)) lines.push(`-H ${quoted(`${name}: ${value}`)}`);
  if (body !== undefined) lines.push(`-H 'Content-Type: application/json' --data ${quoted(json(body))}`);
  if (file !== undefined) lines.push(`-H 'Content-Type: application/x-ndjson' --data-binary @${word(file)}`);
  if (output !== undefined) lines.push(`--fail --output ${word(output)}`);
  return lines.join(" \\\n  ");
}

/** @param {Action} action */
function pythonCall(action) {
  const base = new URL(API, ROOT).href;
  const start = `from cloudflare import Cloudflare\n\nclient = Cloudflare(base_url=${json(base)}, api_token="TOKEN")\n`;
  if (action.python) return start + action.python;
  const path = json(action.path.replace(API, ""));
  const body = action.body === undefined ? "" : `, body=${python(action.body)}`;
  const headers = hasHeaders(action) ? `, options={"headers": ${python(action.headers)}}` : "";
  const call = (type) => `client.${action.method.toLowerCase()}(${path}${body}, cast_to=${type}${headers})`;
  if (action.output === undefined) return start + call("object");
  return `import httpx\n${start}with open(${python(action.output)}, "wb") as file:\n    file.write(${call("httpx.Response")}.content)`;
}

/** @param {Action} action */
function npmCall(action) {
  const base = new URL(API, ROOT).href;
  const start = `import Cloudflare from "cloudflare";\n\nconst client = new Cloudflare({ baseURL: ${json(base)}, apiToken: "TOKEN" });\n`;
  if (action.npm) return start + action.npm;
  const path = json(action.path.replace(API, ""));
  const options = [
    ...(action.body === undefined ? [] : [`body: ${json(action.body)}`]),
    ...(hasHeaders(action) ? [`headers: ${json(action.headers)}`] : []),
  ];
  const call = `client.${action.method.toLowerCase()}(${path}${options.length ? `, { ${options.join(", ")} }` : ""})`;
  if (action.output === undefined) return `${start}await ${call};`;
  return `import { writeFile } from "node:fs/promises";\n${start}await writeFile(${json(action.output)}, (await ${call}.asResponse()).body);`;
}

/**
 * Return an action in all forms; wrangler has no command for some.
 * @param {Action} action
 * @param {string} account
 * @returns {[name: string, text: string][]}
 */
export function forms(action, account) {
  const base = new URL(API, ROOT).href;
  const lacks = action.wranglerLacks ? `# wrangler ${action.wranglerLacks}.\n` : "";
  const wrangler = action.wrangler
    ? `${lacks}CLOUDFLARE_API_BASE_URL=${word(base)} CLOUDFLARE_API_TOKEN=$TOKEN CLOUDFLARE_ACCOUNT_ID=${word(account)} \\\n  npx wrangler vectorize ${action.wrangler}`
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
  npm: `for await (const index of client.vectorize.indexes.list({ account_id: ${json(account)} })) console.log(index.name);`,
  wrangler: "list",
});

/** @param {string} account @param {{name: string, description?: string, config: any}} body @returns {Action} */
export function createIndex(account, body) {
  const { dimensions, metric, preset } = body.config;
  const { name, description } = body;
  const size = preset ? `--preset=${word(preset)}` : `--dimensions=${word(dimensions)} --metric=${word(metric)}`;
  const said = (key) => (description ? `, ${key}${json(description)}` : "");
  return {
    method: "POST",
    path: indexesPath(account),
    body,
    python: `client.vectorize.indexes.create(account_id=${python(account)}, name=${python(name)}, config=${python(body.config)}${said("description=")})`,
    npm: `await client.vectorize.indexes.create({ account_id: ${json(account)}, name: ${json(name)}, config: ${json(body.config)}${said("description: ")} });`,
    wrangler: `create ${word(name)} ${size}${description ? ` --description=${word(description)}` : ""}`,
  };
}

/** @param {string} account @param {string} name @returns {Action} */
export const deleteIndex = (account, name) => ({
  method: "DELETE",
  path: indexPath(account, name),
  python: `client.vectorize.indexes.delete(${python(name)}, account_id=${python(account)})`,
  npm: `await client.vectorize.indexes.delete(${json(name)}, { account_id: ${json(account)} });`,
  wrangler: `delete ${word(name)}`,
});

/** @param {string} account @param {string} name @param {string} property @param {string} type @param {boolean} backfill @returns {Action} */
export const createMetadataIndex = (account, name, property, type, backfill) => ({
  method: "POST",
  path: `${indexPath(account, name)}/metadata_index/create`,
  body: { propertyName: property, indexType: type, ...(backfill ? { backfill } : {}) },
  python: `client.vectorize.indexes.metadata_index.create(${python(name)}, account_id=${python(account)}, property_name=${python(property)}, index_type=${python(type)}${backfill ? `, extra_body={"backfill": True}` : ""})`,
  wrangler: `create-metadata-index ${word(name)} --propertyName=${word(property)} --type=${word(type)}`,
  wranglerLacks: backfill ? "makes no backfill: vectors that are there stay uncovered" : undefined,
});

/** @param {string} account @param {string} name @param {any} body @param {Record<string, string>} headers @returns {Action} */
export function query(account, name, body, headers) {
  const what = body.vectorId ? `--vector-id=${word(body.vectorId)}` : `--vector ${[body.vector ?? []].flat().map(word).join(" ")}`;
  const options = [
    `--top-k=${word(body.topK)}`,
    ...(body.namespace ? [`--namespace=${word(body.namespace)}`] : []),
    ...(body.filter ? [`--filter=${quoted(json(body.filter))}`] : []),
    ...(body.returnMetadata ? [`--return-metadata=${word(body.returnMetadata)}`] : []),
  ];
  return {
    method: "POST",
    path: `${indexPath(account, name)}/query`,
    body,
    headers,
    npm: `await client.vectorize.indexes.query(${json(name)}, { account_id: ${json(account)}, ${json(body).slice(1, -1)} }${Object.keys(headers).length ? `, { headers: ${json(headers)} }` : ""});`,
    wrangler: body.text === undefined ? `query ${word(name)} ${what} ${options.join(" ")}` : undefined,
    wranglerLacks: headers["vicinal-effort"] ? "names no effort: that of the index is taken" : undefined,
  };
}

/**
 * A call that names vectors by their ids; each client has its own name for it.
 * @param {string} operation @param {string} method of npm's SDK @param {string} command of wrangler
 * @returns {(account: string, name: string, ids: string[]) => Action}
 */
const ofIds = (operation, method, command) => (account, name, ids) => ({
  method: "POST",
  path: `${indexPath(account, name)}/${operation}`,
  body: { ids },
  python: `client.vectorize.indexes.${operation}(${python(name)}, account_id=${python(account)}, ids=${python(ids)})`,
  npm: `await client.vectorize.indexes.${method}(${json(name)}, { account_id: ${json(account)}, ids: ${json(ids)} });`,
  wrangler: `${command} ${word(name)} --ids ${ids.map(word).join(" ")}`,
});

export const getVectors = ofIds("get_by_ids", "getByIDs", "get-vectors");
export const deleteVectors = ofIds("delete_by_ids", "deleteByIDs", "delete-vectors");

/** @param {string} account @param {string} name @param {"insert" | "upsert"} mode @param {string} file @returns {Action} */
export const importing = (account, name, mode, file) => ({
  method: "POST",
  path: `${indexPath(account, name)}/${mode}`,
  file,
  python: `with open(${python(file)}, "rb") as file:\n    client.vectorize.indexes.${mode}(${python(name)}, account_id=${python(account)}, body=file)`,
  npm: `await client.vectorize.indexes.${mode}(${json(name)}, { account_id: ${json(account)}, body: (await import("node:fs")).createReadStream(${json(file)}) });`,
  wrangler: `${mode} ${word(name)} --file=${word(file)}`,
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
  path: `${accountPath(account)}/ai/run/${modelPath(model)}`,
  body: { text: [text] },
});
