/**
 * What can be done with the points of a lasso: looked at as a table, exported, patched, deleted.
 */
import { html, useState } from "../core/html.js";
import { ask, indexPath, save, WAIT } from "../core/api.js";
import { deleteVectors, getVectors, scoped } from "../core/commands.js";
import { count, counted, parsedObject, title } from "../core/format.js";
import { useAction, useLoaded } from "../core/hooks.js";
import { account, link } from "../core/route.js";
import { session } from "../core/session.js";
import { Code, Dialog, Problem, TypedConfirmation } from "../parts/basics.js";
import { Table } from "../parts/table.js";

const GET_MAX = 20; // ids of one request, in every profile of limits
const CHANGE_MAX = 100;
const LISTED_MAX = 100; // rows of the table

/** @template T @param {T[]} items @param {number} size @returns {T[][]} */
const chunks = (items, size) => Array.from({ length: Math.ceil(items.length / size) }, (_, number) => items.slice(number * size, (number + 1) * size));

/**
 * @param {string} name @param {string[]} ids @param {AbortSignal} [signal]
 * @returns {Promise<{id: string, metadata?: Record<string, unknown>, namespace?: string, values: number[]}[]>}
 */
async function get(name, ids, signal) {
  const vectors = [];
  for (const some of chunks(ids, GET_MAX)) vectors.push(...(await ask(`${indexPath(account(), name)}/get_by_ids`, { body: { ids: some }, signal })));
  return vectors;
}

/** @param {{name: string, ids: string[], onChanged: () => void, onClear: () => void}} props */
export function Selection({ name, ids, onChanged, onClear }) {
  const [dialog, setDialog] = useState("");
  const listed = useLoaded((signal) => get(name, ids.slice(0, LISTED_MAX), signal), [name, ids]);
  const exporting = useAction();
  const exportAll = () => exporting.run(async () => {
    const vectors = await get(name, ids);
    save(new Blob(vectors.map((vector) => `${JSON.stringify(vector)}\n`), { type: "application/x-ndjson" }), `${name}-selected.ndjson`);
  });
  const done = () => {
    setDialog("");
    onChanged();
  };
  const columns = [
    { name: "vector", show: ({ id, metadata }) => html`<a class="clip" href=${link("row", [name, id])}>${title(id, metadata)}</a>`, order: ({ id, metadata }) => title(id, metadata) },
    { name: "id", show: ({ id }) => id, order: ({ id }) => id, className: "mono faint" },
  ];
  return html`
    <div aria-label="Selection" role="group">
      <p><b>${count(ids.length)}</b> selected <button class="quiet" onClick=${onClear}>clear</button></p>
      <p class="row">
        <button disabled=${exporting.isBusy} onClick=${exportAll}>Export</button>
        ${session.mayWrite && html`<button onClick=${() => setDialog("patch")}>Patch</button><button onClick=${() => setDialog("delete")}>Delete</button>`}
      </p>
      <${Problem} error=${listed.error ?? exporting.error} />
      ${listed.data && html`<${Table} label="Selected vectors" columns=${columns} rows=${listed.data} rowKey=${({ id }) => id} />`}
      <${Code} action=${getVectors(account(), name, ids.slice(0, GET_MAX))} label=${`export ${codeLabel(ids, GET_MAX)}`} />
      ${ids.length > LISTED_MAX && html`<p class="faint">the first ${LISTED_MAX} of them</p>`}
      ${dialog === "delete" && html`<${DeleteSelected} name=${name} ids=${ids} onClose=${() => setDialog("")} onDone=${done} />`}
      ${dialog === "patch" && html`<${PatchSelected} name=${name} ids=${ids} onClose=${() => setDialog("")} onDone=${done} />`}
    </div>
  `;
}

/** What code of one request is for, where more are made. @param {string[]} ids @param {number} most ids of one request */
const codeLabel = (ids, most) => (ids.length > most ? `as code, for the first ${most} of ${count(ids.length)}` : "as code");

/** @param {{name: string, ids: string[], onClose: () => void, onDone: () => void}} props */
function DeleteSelected({ name, ids, onClose, onDone }) {
  const { isBusy, error, run } = useAction();
  const confirm = async () => {
    const isDone = await run(async () => {
      for (const some of chunks(ids, CHANGE_MAX)) await ask(`${indexPath(account(), name)}/delete_by_ids`, { body: { ids: some }, headers: WAIT });
    });
    if (isDone) onDone();
  };
  return html`<${TypedConfirmation} title="Delete vectors" name=${name} verb="Delete" action=${deleteVectors(account(), name, ids.slice(0, CHANGE_MAX))} label=${codeLabel(ids, CHANGE_MAX)} isBusy=${isBusy} error=${error} onConfirm=${confirm} onClose=${onClose}
    text=${html`${counted(ids.length, "vector")} of <b>${name}</b> will be gone.`} />`;
}

/** @param {{name: string, ids: string[], onClose: () => void, onDone: () => void}} props */
function PatchSelected({ name, ids, onClose, onDone }) {
  const [draft, setDraft] = useState('{"reviewed": true}');
  const metadata = parsedObject(draft);
  const { isBusy, error, run } = useAction();
  const submit = async (event) => {
    event.preventDefault();
    const isDone = await run(async () => {
      for (const some of chunks(ids, CHANGE_MAX)) await ask(`${indexPath(account(), name)}/vectors/patch`, { body: { ids: some, metadata }, headers: WAIT });
    });
    if (isDone) onDone();
  };
  return html`
    <${Dialog} title="Patch metadata" onClose=${onClose}>
      <form onSubmit=${submit}>
        <p>Members of this object are set in the metadata of ${counted(ids.length, "vector")}; null removes one.</p>
        <textarea autofocus class="mono" aria-label="Patch" aria-invalid=${metadata === null} rows="4" spellcheck=${false} value=${draft} onInput=${(event) => setDraft(event.currentTarget.value)}></textarea>
        <${Problem} error=${error} />
        <footer><span class="faint">${metadata ? "" : "not a JSON object"}</span><button class="primary" disabled=${isBusy || !metadata}>Patch</button></footer>
      </form>
      <${Code} action=${scoped(account(), name, "patch", { ids: ids.slice(0, CHANGE_MAX), metadata: metadata ?? {} })} label=${codeLabel(ids, CHANGE_MAX)} />
    <//>
  `;
}
