/**
 * Importing a file that is dropped: how far it is, and the lines that were refused.
 */
import { html, useRef, useState } from "../core/html.js";
import { save } from "../core/api.js";
import { importing } from "../core/commands.js";
import { bytes, count, counted } from "../core/format.js";
import { useAction } from "../core/hooks.js";
import { importFile } from "../core/importing.js";
import { useIndex, useNames } from "../core/indexes.js";
import { account, setParams, useRoute } from "../core/route.js";
import { session } from "../core/session.js";
import { Code, Empty, LabelledChoice, Problem } from "../parts/basics.js";
import { Table } from "../parts/table.js";

const COLUMNS = [
  { name: "line", show: ({ line }) => count(line), order: ({ line }) => line, isNumber: true },
  { name: "reason", show: ({ reason }) => reason, order: ({ reason }) => reason },
  { name: "begins with", show: ({ text }) => html`<span class="clip wide">${text}</span>`, className: "mono faint" },
];

export function Importing() {
  const { params } = useRoute();
  const names = useNames();
  const name = params.index ?? names.data?.[0];
  if (!session.mayWrite) return html`<${Empty}>An import needs a token that may write.<//>`;
  if (!name) return html`<${Problem} error=${names.error} />${names.data && html`<${Empty}>Create an index first.<//>`}`;
  return html`<${Import} key=${name} name=${name} names=${names.data ?? [name]} />`;
}

/** @param {{name: string, names: string[]}} props */
function Import({ name, names }) {
  const index = useIndex(name);
  const [mode, setMode] = useState(/** @type {"upsert" | "insert"} */ ("upsert"));
  const [progress, setProgress] = useState(/** @type {(import("../core/importing.js").Progress & {file: File}) | null} */ (null));
  const [isOver, setOver] = useState(false);
  const stop = useRef(/** @type {AbortController | null} */ (null));
  const { isBusy, error, run } = useAction();
  const start = (/** @type {File | undefined} */ file) => {
    const dimensions = index.data?.config.dimensions;
    if (!file || !dimensions || isBusy) return;
    stop.current = new AbortController();
    const { signal } = stop.current;
    setProgress(null);
    run(() => importFile({ file, account: account(), index: name, dimensions, mode, signal, report: (now) => setProgress({ ...now, file }) }));
  };
  const dropped = (event) => {
    event.preventDefault();
    setOver(false);
    start(event.dataTransfer.files[0]);
  };
  return html`
    <div class="controls">
      <${LabelledChoice} label="Index" value=${name} options=${names} disabled=${isBusy} onChange=${(next) => setParams({ index: next })} />
      <${LabelledChoice} label="Mode" value=${mode} disabled=${isBusy} options=${[["upsert", "upsert: replace what is there"], ["insert", "insert: keep what is there"]]} onChange=${setMode} />
      <span class="faint">${index.data && `${counted(index.data.vectorCount, "vector")} of ${counted(index.data.config.dimensions, "dimension")}`}</span>
    </div>
    <label class=${`drop ${isOver ? "over" : ""}`} style=${{ display: "block" }} onDragOver=${(event) => { event.preventDefault(); setOver(true); }} onDragLeave=${() => setOver(false)} onDrop=${dropped}>
      <p>Drop a file of NDJSON here, or choose one: a line for each vector, like</p>
      <p class="mono">{"id": "a", "values": [0.1, …], "namespace": "n", "metadata": {"year": 1969}}</p>
      <input type="file" accept=".ndjson,.jsonl,application/x-ndjson" disabled=${isBusy || !index.data} onChange=${(event) => start(event.currentTarget.files[0])} />
    </label>
    <p class="faint">Texts, CSV, arrays and parquet: <code>vicinal import</code>.</p>
    <${Problem} error=${index.error ?? error} />
    ${progress && html`<${Report} progress=${progress} isBusy=${isBusy} onStop=${() => stop.current?.abort()} />`}
    <${Code} action=${importing(account(), name, mode, progress?.file.name ?? "vectors.ndjson")} label="as code, for a file of one request" />
  `;
}

/** @param {{progress: import("../core/importing.js").Progress & {file: File}, isBusy: boolean, onStop: () => void}} props */
function Report({ progress, isBusy, onStop }) {
  const { file, bytes: read, sent, refusedCount, refused } = progress;
  const list = () => save(new Blob(refused.map((each) => `${JSON.stringify(each)}\n`)), `${file.name}.refused.ndjson`);
  return html`
    <progress aria-label="Progress" max=${file.size || 1} value=${read}></progress>
    <p role="status">${file.name}: ${bytes(read)} of ${bytes(file.size)}, <b>${counted(sent, "vector")}</b> stored, <b class=${refusedCount ? "bad" : ""}>${counted(refusedCount, "line")}</b> refused
      ${isBusy && html` <button onClick=${onStop}>Stop</button>`} ${refusedCount > 0 && html` <button class="quiet" onClick=${list}>save the list</button>`}</p>
    ${refused.length > 0 && html`<${Table} label="Refused lines" columns=${COLUMNS} rows=${refused} rowKey=${({ line }) => String(line)} />`}
  `;
}
