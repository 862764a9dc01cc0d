/**
 * The API, read from the server's own OpenAPI document; each operation can be tried where it stands.
 */
import { html, useMemo, useState } from "../core/html.js";
import { modelPath, ROOT, send } from "../core/api.js";
import { milliseconds } from "../core/format.js";
import { useAction, useLoaded } from "../core/hooks.js";
import { account, setParams, useRoute } from "../core/route.js";
import { session } from "../core/session.js";
import { Code, Field, Problem } from "../parts/basics.js";
import { TextParam } from "../parts/scope.js";

const SHOWN_CHARS = 20_000; // of an answer
const READ_CHARS = 1_000_000; // of an answer, which may be a stream of all that the server has
const METHODS = ["get", "post", "put", "delete", "patch"];

/**
 * @typedef {object} Operation
 * @property {string} method
 * @property {string} path
 * @property {any} described
 */

/** @param {any} document @returns {Operation[]} */
function operationsOf(document) {
  return Object.entries(document.paths).flatMap(([path, methods]) =>
    METHODS.filter((method) => methods[method]).map((method) => ({ method: method.toUpperCase(), path, described: methods[method] })));
}

/** What a path is about: the first literal part behind the account. @param {string} path */
function group(path) {
  if (path.includes("/vectorize/")) return path.includes("{index_name}/vectors") ? "Vectors of a scope" : path.includes("metadata_index") ? "Metadata indexes" : path.includes("{index_name}/") ? "Vectors" : "Indexes";
  if (path.includes("/ai/")) return "Models";
  if (path.includes("/d1/")) return "SQL databases";
  if (path.includes("/vicinal/snapshots")) return "Snapshots";
  return path.includes("/vicinal/") ? "Tokens and slow queries" : "Accounts and tools";
}

/**
 * An example of a schema: what a body may look like.
 * @param {any} schema
 * @param {any} document
 * @param {number} [depth]
 * @returns {any}
 */
export function example(schema, document, depth = 0) {
  if (!schema || depth > 6) return null;
  if (schema.$ref) return example(document.components.schemas[schema.$ref.split("/").at(-1)], document, depth + 1);
  if (schema.default !== undefined && schema.default !== null) return schema.default;
  if (schema.enum) return schema.enum[0];
  const choices = schema.anyOf ?? schema.oneOf;
  if (choices) return example(choices.find((each) => each.type !== "null") ?? choices[0], document, depth + 1);
  const type = Array.isArray(schema.type) ? schema.type.find((each) => each !== "null") : schema.type;
  if (type === "array") return [example(schema.items, document, depth + 1)];
  if (schema.properties) {
    const wanted = schema.required?.length ? schema.required : Object.keys(schema.properties).slice(0, 4);
    return Object.fromEntries(wanted.map((name) => [name, example(schema.properties[name], document, depth + 1)]));
  }
  return { string: "", integer: 1, number: 0.5, boolean: true, object: {} }[type] ?? null;
}

const READING = /(\{index_name\}\/(query|get_by_ids|vectors\/(list|export|count|facets|map))|\/ai\/.*|\/edge-preview)$/;

/**
 * Tell whether the caller may try an operation; what the server refuses is refused all the same.
 * @param {string} method
 * @param {string} path
 * @param {boolean} mayWrite
 */
export function mayTry(method, path, mayWrite) {
  if (mayWrite) return true;
  return method === "GET" ? !path.includes("/vicinal/") : READING.test(path);
}

/**
 * Return an answer, or its beginning.
 * @param {Response} response
 */
async function beginning(response) {
  const reader = response.body?.getReader();
  const decoder = new TextDecoder();
  let text = "";
  while (reader && text.length <= READ_CHARS) {
    const { done, value } = await reader.read();
    if (done) return text + decoder.decode();
    text += decoder.decode(value, { stream: true });
  }
  reader?.cancel();
  return text;
}

export function ApiPage() {
  const { params } = useRoute();
  const { data, error } = useLoaded(async (signal) => (await send("openapi.json", { signal })).json(), []);
  const wanted = (params.search ?? "").toLowerCase();
  const groups = useMemo(() => {
    /** @type {Map<string, Operation[]>} */
    const sorted = new Map();
    for (const operation of data ? operationsOf(data) : []) {
      const text = `${operation.method} ${operation.path} ${operation.described.operationId} ${operation.described.summary}`.toLowerCase();
      if (!text.includes(wanted)) continue;
      const name = group(operation.path);
      sorted.set(name, [...(sorted.get(name) ?? []), operation]);
    }
    return [...sorted];
  }, [data, wanted]);
  return html`
    <section class="page">
      <header class="bar-head">
        <h1>API</h1>
        <${TextParam} label="Search operations" isMain size=${30} value=${params.search} onChange=${(search) => setParams({ search })} />
        <p class="faint">${data && html`${data.info.title} ${data.info.version}, <a href=${new URL("openapi.json", ROOT).href}>openapi.json</a>`}</p>
      </header>
      <${Problem} error=${error} />
      ${groups.map(([name, operations]) => html`
        <h2 key=${name}>${name}</h2>
        ${operations.map((operation) => html`<${OperationCard} key=${operation.described.operationId} operation=${operation} document=${data} isOpen=${params.open === operation.described.operationId} />`)}`)}
    </section>
  `;
}

/** @param {{operation: Operation, document: any, isOpen: boolean}} props */
function OperationCard({ operation, document, isOpen }) {
  const { method, path, described } = operation;
  const toggled = (event) => {
    if (event.currentTarget.open !== isOpen) setParams({ open: event.currentTarget.open ? described.operationId : "" });
  };
  return html`
    <details class="operation" open=${isOpen} onToggle=${toggled}>
      <summary><span class=${`method ${method}`}>${method}</span><span class="mono">${path.replace("/client/v4", "…")}</span><span class="faint">${described.summary}</span></summary>
      ${isOpen && html`<${Try} operation=${operation} document=${document} />`}
    </details>
  `;
}

/** @param {any} described @param {any} document */
function bodyExample(described, document) {
  const content = described.requestBody?.content;
  if (!content) return "";
  const schema = (content["application/json"] ?? Object.values(content)[0]).schema;
  return JSON.stringify(example(schema, document), null, 2);
}

/** @param {{operation: Operation, document: any}} props */
function Try({ operation, document }) {
  const { method, path, described } = operation;
  const [values, setValues] = useState(/** @type {Record<string, string>} */ ({ account_id: account() }));
  const [body, setBody] = useState(() => bodyExample(described, document));
  const [answer, setAnswer] = useState(/** @type {{status: number, text: string, took: number} | null} */ (null));
  const { isBusy, error, run } = useAction();
  const target = addressOf(path, described.parameters, values);
  const isAllowed = mayTry(method, path, session.mayWrite);
  const submit = (event) => {
    event.preventDefault();
    run(async () => {
      const start = performance.now();
      const response = await send(target, { method, body: body ? body : undefined });
      const text = await beginning(response);
      setAnswer({ status: response.status, text: pretty(text), took: performance.now() - start });
    });
  };
  return html`
    <div>
      <form onSubmit=${submit}>
        ${described.parameters.map(({ name, in: place, description }) => html`
          <${Field} key=${name} label=${name} hint=${description}>
            <input required=${place === "path"} spellcheck=${false} value=${values[name] ?? ""} onInput=${(event) => setValues({ ...values, [name]: event.currentTarget.value })} />
          <//>`)}
        ${described.requestBody && html`<textarea class="mono" aria-label="Body" spellcheck=${false} rows=${Math.min(16, body.split("\n").length + 1)} value=${body} onInput=${(event) => setBody(event.currentTarget.value)}></textarea>`}
        <footer><button class="primary" disabled=${isBusy || !isAllowed} title=${isAllowed ? "" : "The token may only read"}>Send</button></footer>
      </form>
      <${Problem} error=${error} />
      ${answer && html`<p><b class=${answer.status < 400 ? "good" : "bad"}>${answer.status}</b> <span class="faint">${milliseconds(answer.took)}</span></p><pre tabindex="0">${answer.text}</pre>`}
      <${Code} action=${{ method, path: target, body: parsedOr(body) }} />
      <${Answers} responses=${described.responses} />
    </div>
  `;
}

/** @param {string} path @param {any[]} parameters @param {Record<string, string>} values */
function addressOf(path, parameters, values) {
  const query = new URLSearchParams(parameters.filter(({ name, in: place }) => place === "query" && values[name]).map(({ name }) => [name, values[name]])).toString();
  const filled = path.slice(1).replaceAll(/\{(\w+)\}/g, (_, name) => {
    const value = values[name] ?? "";
    return name === "model_name" ? modelPath(value) : encodeURIComponent(value);
  });
  return query ? `${filled}?${query}` : filled;
}

/** @param {{responses: Record<string, {description: string}>}} props */
const Answers = ({ responses }) => html`
  <details class="code"><summary>answers</summary>
    <dl class="keys">${Object.entries(responses).map(([status, { description }]) => html`<dt key=${status} class="mono">${status}</dt><dd>${description}</dd>`)}</dl>
  </details>
`;

/** @param {string} text */
function pretty(text) {
  const parsed = parsedOr(text);
  const shown = typeof parsed === "string" || parsed === undefined ? text : JSON.stringify(parsed, null, 2);
  return shown.length > SHOWN_CHARS ? `${shown.slice(0, SHOWN_CHARS)}…` : shown;
}

/** @param {string} text */
function parsedOr(text) {
  try {
    return text ? JSON.parse(text) : undefined;
  } catch {
    return text;
  }
}
