/**
 * The indexes of the account: what each of them holds, live; one is created or deleted here.
 */
import { html, useMemo, useState } from "../core/html.js";
import { ask, askText, indexesPath, indexPath } from "../core/api.js";
import { createIndex, deleteIndex, listIndexes } from "../core/commands.js";
import { bytes, count, counted, when } from "../core/format.js";
import { useAction, useLoaded, usePoll } from "../core/hooks.js";
import { parse, sum } from "../core/metrics.js";
import { account, go, link, setParams, useRoute } from "../core/route.js";
import { session } from "../core/session.js";
import { Choice, Code, Dialog, Empty, Field, Problem, TypedConfirmation } from "../parts/basics.js";
import { Table } from "../parts/table.js";

const POLL_MS = 3000;
const AT_ONCE = 6; // requests under way, as browsers have it
const DESCRIBED_MAX = 200; // indexes whose contents are asked for: fewer than a server keeps open

/**
 * @typedef {object} Row
 * @property {string} name
 * @property {{dimensions: number, metric: string, preset?: string, model?: string}} config
 * @property {string} created
 * @property {number | null} vectors
 * @property {number | null} pending
 * @property {number | null} size bytes of its parts
 * @property {string} health empty: nothing is wrong
 */

/** @param {AbortSignal} signal @returns {Promise<Row[]>} */
async function load(signal) {
  const [indexes, text] = await Promise.all([
    ask(indexesPath(account()), { signal }),
    session.isOfAll ? askText("metrics", signal).catch(() => "") : "",
  ]);
  const metrics = parse(text);
  /** @type {Row[]} */
  const rows = indexes.map(({ name, config, created_on: created }) => {
    const labels = { account: account(), index: name };
    return { name, config, created, vectors: null, pending: sum(metrics, "vicinal_index_pending_vectors", labels), size: null, health: sum(metrics, "vicinal_index_failed", labels) ? "takes no writes" : "" };
  });
  const waiting = rows.slice(0, DESCRIBED_MAX);
  const work = async () => {
    for (let row = waiting.shift(); row; row = waiting.shift()) {
      try {
        const info = await ask(`${indexPath(account(), row.name)}/info?detail=true`, { signal });
        [row.vectors, row.size] = [info.vectorCount, info.byteCount];
      } catch (error) {
        row.health = error.message;
      }
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  return rows;
}

/** @type {import("../parts/table.js").Column<Row>[]} */
const COLUMNS = [
  { name: "index", show: ({ name }) => html`<a href=${link("browse", [name])}>${name}</a>`, order: ({ name }) => name, className: "mono" },
  { name: "vectors", show: ({ vectors }) => count(vectors), order: ({ vectors }) => vectors, isNumber: true },
  { name: "pending", show: ({ pending }) => count(pending), order: ({ pending }) => pending, isNumber: true },
  { name: "dimensions", show: ({ config }) => count(config.dimensions), order: ({ config }) => config.dimensions, isNumber: true },
  { name: "metric", show: ({ config }) => config.metric, order: ({ config }) => config.metric },
  { name: "size", show: ({ name, size }) => html`<a href=${link("operations", [], { show: "storage", index: name })}>${bytes(size)}</a>`, order: ({ size }) => size, isNumber: true },
  { name: "model", show: ({ config }) => config.model ?? config.preset ?? "", order: ({ config }) => config.model ?? config.preset ?? null, className: "mono faint" },
  { name: "created", show: ({ created }) => when(created), order: ({ created }) => created, className: "faint" },
  { name: "health", show: ({ health }) => (health ? html`<span class="bad" title=${health}>● ${health}</span>` : html`<span class="good">● ok</span>`), order: ({ health }) => health },
];

export function IndexesPage() {
  const { params } = useRoute();
  const { data, error, isLoading, reload } = useLoaded(load, [account()]);
  const [dialog, setDialog] = useState("");
  usePoll(() => isLoading || reload(), POLL_MS); // else a slow server's answers would never be waited for
  const columns = useMemo(() => [
    ...COLUMNS,
    {
      name: "",
      show: ({ name }) => html`
        <span class="actions">
          <a href=${link("search", [name])}>search</a> <a href=${link("map", [name])}>map</a>
          ${session.mayWrite && html`<button class="quiet" aria-label=${`Delete ${name}`} onClick=${() => setDialog(`delete ${name}`)}>delete</button>`}
        </span>`,
    },
  ], [session.mayWrite]);
  const done = () => {
    setDialog("");
    reload();
  };
  const total = data?.reduce((all, { vectors }) => all + (vectors ?? 0), 0);
  return html`
    <section class="page">
      <header class="bar-head">
        <h1>Indexes</h1>
        <p class="faint">${data && `${count(data.length)} with ${counted(total, "vector")}`}</p>
        ${session.mayWrite && html`<button class="primary" onClick=${() => setDialog("create")}>Create index</button>`}
      </header>
      <${Problem} error=${error} />
      ${data?.length === 0
        ? html`<${Empty}><p>No index yet.</p><p>Create one here, or with <code>vicinal index create</code>, <code>wrangler vectorize create</code> or an SDK.</p><//>`
        : data && html`<${Table} label="Indexes" columns=${columns} rows=${data} rowKey=${({ name }) => name} sort=${params.sort ?? ""} onSort=${(sort) => setParams({ sort })} onOpen=${({ name }) => go("browse", [name])} />`}
      <${Code} action=${listIndexes(account())} />
      ${dialog === "create" && html`<${CreateDialog} onClose=${() => setDialog("")} onDone=${done} />`}
      ${dialog.startsWith("delete ") && html`<${DeleteDialog} name=${dialog.slice(7)} rows=${data ?? []} onClose=${() => setDialog("")} onDone=${done} />`}
    </section>
  `;
}

const METRICS = ["cosine", "euclidean", "dot-product"];
const PRESETS = [
  ["", "none"],
  ["@hf/sentence-transformers/all-minilm-l6-v2", "all-MiniLM-L6-v2, 384"],
  ["@cf/baai/bge-small-en-v1.5", "bge-small-en-v1.5, 384"],
  ["@cf/baai/bge-base-en-v1.5", "bge-base-en-v1.5, 768"],
  ["@cf/baai/bge-large-en-v1.5", "bge-large-en-v1.5, 1024"],
];

/** @param {{onClose: () => void, onDone: () => void}} props */
function CreateDialog({ onClose, onDone }) {
  const [name, setName] = useState("");
  const [description, setDescription] = useState("");
  const [preset, setPreset] = useState("");
  const [dimensions, setDimensions] = useState("384");
  const [metric, setMetric] = useState("cosine");
  const { isBusy, error, run } = useAction();
  const config = preset ? { preset } : { dimensions: Number(dimensions), metric };
  const body = { name, config, ...(description ? { description } : {}) };
  const submit = async (event) => {
    event.preventDefault();
    if (await run(() => ask(indexesPath(account()), { body }))) onDone();
  };
  return html`
    <${Dialog} title="Create index" onClose=${onClose}>
      <form onSubmit=${submit}>
        <${Field} label="Name" hint="letters, digits, - and _">
          <input autofocus required maxlength="64" pattern="[A-Za-z0-9_\\-]+" autocomplete="off" spellcheck=${false} value=${name} onInput=${(event) => setName(event.currentTarget.value)} />
        <//>
        <${Field} label="Preset" hint="a model's dimensions and metric">
          <${Choice} label="Preset" value=${preset} options=${PRESETS} onChange=${setPreset} />
        <//>
        ${!preset && html`
          <${Field} label="Dimensions"><input type="number" required min="1" max="4096" value=${dimensions} onInput=${(event) => setDimensions(event.currentTarget.value)} /><//>
          <${Field} label="Metric"><${Choice} label="Metric" value=${metric} options=${METRICS} onChange=${setMetric} /><//>
        `}
        <${Field} label="Description"><input maxlength="1024" value=${description} onInput=${(event) => setDescription(event.currentTarget.value)} /><//>
        <${Problem} error=${error} />
        <footer><button class="primary" disabled=${isBusy}>Create</button></footer>
      </form>
      <${Code} action=${createIndex(account(), body)} />
    <//>
  `;
}

/** @param {{name: string, rows: Row[], onClose: () => void, onDone: () => void}} props */
function DeleteDialog({ name, rows, onClose, onDone }) {
  const { isBusy, error, run } = useAction();
  const vectors = rows.find((row) => row.name === name)?.vectors;
  const confirm = async () => {
    if (await run(() => ask(indexPath(account(), name), { method: "DELETE" }))) onDone();
  };
  return html`
    <${TypedConfirmation} title="Delete index" name=${name} verb="Delete" action=${deleteIndex(account(), name)} isBusy=${isBusy} error=${error} onConfirm=${confirm} onClose=${onClose}
      text=${html`The index <b>${name}</b> and its ${counted(vectors, "vector")} will be gone. Nothing brings them back but a snapshot.`} />
  `;
}
