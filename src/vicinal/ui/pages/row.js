/**
 * One vector: its metadata, which can be edited, its values as a plot, and its neighbours.
 */
import { html, useState } from "../core/html.js";
import { ask, indexPath, WAIT } from "../core/api.js";
import { deleteVectors, query as queryAction, scoped } from "../core/commands.js";
import { parsedObject, score, title } from "../core/format.js";
import { useAction, useDraft, useLoaded } from "../core/hooks.js";
import { account, go, link, useRoute } from "../core/route.js";
import { session } from "../core/session.js";
import { Bar, Code, Copy, Empty, Problem, TypedConfirmation } from "../parts/basics.js";
import { Values } from "../parts/values.js";

const NEIGHBORS = 12;

/**
 * Return the merge patch (RFC 7386) that turns a document into another.
 * @param {any} before
 * @param {any} after
 * @returns {any}
 */
export function mergePatch(before, after) {
  const isObject = (value) => value !== null && typeof value === "object" && !Array.isArray(value);
  /** @type {[name: string, value: any][]} */
  const patch = [];
  for (const name of new Set([...Object.keys(before), ...Object.keys(after)])) {
    const [old, next] = [before, after].map((document) => (Object.hasOwn(document, name) ? document[name] : undefined));
    if (next === undefined) patch.push([name, null]);
    else if (isObject(old) && isObject(next)) {
      const inner = mergePatch(old, next);
      if (Object.keys(inner).length) patch.push([name, inner]);
    } else if (JSON.stringify(old) !== JSON.stringify(next)) patch.push([name, next]);
  }
  return Object.fromEntries(patch);
}

export function RowPage() {
  const { parts: [name = "", id = ""] } = useRoute();
  const { data, error, reload } = useLoaded(
    async (signal) => (await ask(`${indexPath(account(), name)}/get_by_ids`, { body: { ids: [id] }, signal }))[0] ?? null,
    [account(), name, id],
  );
  const [isDeleting, setDeleting] = useState(false);
  return html`
    <section class="page">
      <header class="bar-head">
        <h1 class="clip" title=${id}>${data ? title(id, data.metadata) : id}</h1>
        <p class="faint mono"><a href=${link("browse", [name])}>${name}</a> / <bdi>${id}</bdi> <${Copy} text=${id} /> ${data?.namespace && html`in <a href=${link("browse", [name], { namespace: data.namespace })}>${data.namespace}</a>`}</p>
        <span class="actions">
          <a href=${link("search", [name], { by: "id", id })}>search by this</a>
          ${session.mayWrite && data && html`<button class="quiet" onClick=${() => setDeleting(true)}>delete</button>`}
        </span>
      </header>
      <${Problem} error=${error} />
      ${data === null && html`<${Empty}>The index has no vector of this id.<//>`}
      ${data && html`
        <div class="columns">
          <div>
            <h2>Metadata</h2><${Metadata} name=${name} id=${id} metadata=${data.metadata ?? {}} onSaved=${reload} />
            <h2>Values</h2><${Values} values=${data.values} />
          </div>
          <div><h2>More like this</h2><${Neighbors} name=${name} id=${id} /></div>
        </div>`}
      ${isDeleting && html`<${DeleteRow} name=${name} id=${id} onClose=${() => setDeleting(false)} />`}
    </section>
  `;
}

/** @param {{name: string, id: string, metadata: Record<string, unknown>, onSaved: () => void}} props */
function Metadata({ name, id, metadata, onSaved }) {
  const written = JSON.stringify(metadata, null, 2);
  const [draft, setDraft] = useDraft(written);
  const { isBusy, error, run } = useAction();
  if (!session.mayWrite) return html`<pre class="metadata" tabindex="0">${written}</pre>`;
  const edited = parsedObject(draft);
  const patch = edited && mergePatch(metadata, edited);
  const isChanged = patch !== null && Object.keys(patch).length > 0;
  const action = scoped(account(), name, "patch", { ids: [id], metadata: patch ?? {} });
  const submit = async () => {
    if (await run(() => ask(action.path, { body: action.body, headers: WAIT }))) onSaved();
  };
  return html`
    <textarea class="metadata mono" aria-label="Metadata" spellcheck=${false} rows=${Math.min(24, draft.split("\n").length + 1)} aria-invalid=${edited === null} value=${draft} onInput=${(event) => setDraft(event.currentTarget.value)}></textarea>
    <${Problem} error=${error} />
    <p class="row">
      <button class="primary" disabled=${!isChanged || isBusy} onClick=${submit}>Save</button>
      ${draft !== written && html`<button class="quiet" onClick=${() => setDraft(written)}>undo</button>`}
      <span class="faint">${edited === null ? "not a JSON object" : isChanged ? `patch: ${JSON.stringify(patch)}` : ""}</span>
    </p>
    <${Code} action=${action} />
  `;
}

/** @param {{name: string, id: string}} props */
function Neighbors({ name, id }) {
  const body = { vectorId: id, topK: NEIGHBORS + 1, returnMetadata: "all" };
  const { data, error } = useLoaded(async (signal) => {
    const { matches } = await ask(`${indexPath(account(), name)}/query`, { body, signal });
    return matches.filter((match) => match.id !== id).slice(0, NEIGHBORS);
  }, [account(), name, id]);
  const best = Math.max(...(data ?? []).map((match) => Math.abs(match.score)), 1e-9);
  return html`
    <${Problem} error=${error} />
    ${data?.length === 0 && html`<p class="faint">There is no other vector.</p>`}
    <ol class="matches">
      ${data?.map((match) => html`
        <li key=${match.id}><a href=${link("row", [name, match.id])}><span class="clip">${title(match.id, match.metadata)}</span><b>${score(match.score)}</b><${Bar} share=${Math.abs(match.score) / best} /></a></li>`)}
    </ol>
    <${Code} action=${queryAction(account(), name, body, {})} />
  `;
}

/** @param {{name: string, id: string, onClose: () => void}} props */
function DeleteRow({ name, id, onClose }) {
  const { isBusy, error, run } = useAction();
  const action = deleteVectors(account(), name, [id]);
  const confirm = async () => {
    if (await run(() => ask(action.path, { body: action.body, headers: WAIT }))) go("browse", [name]);
  };
  return html`<${TypedConfirmation} title="Delete vector" name=${id} verb="Delete" action=${action} isBusy=${isBusy} error=${error} onConfirm=${confirm} onClose=${onClose} text="The vector and its metadata will be gone." />`;
}

