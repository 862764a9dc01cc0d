/**
 * The part of an index that a page is about, as its address has it: a namespace, a prefix of ids, a
 * filter; and the controls that choose it.
 */
import { html, useState } from "../core/html.js";
import { ask, indexPath, WAIT } from "../core/api.js";
import { createMetadataIndex } from "../core/commands.js";
import { count, counted } from "../core/format.js";
import { useAction } from "../core/hooks.js";
import { account, go, setParams, useRoute } from "../core/route.js";
import { session } from "../core/session.js";
import { Bar, Choice, Code, Dialog, Field, LabelledChoice, Problem, TextInput } from "./basics.js";
import { FilterBuilder, parseFilter } from "./filter.js";

/** @typedef {import("../core/indexes.js").IndexState} IndexState */
/** @typedef {import("../core/indexes.js").Property} Property */

/**
 * Return the scope that parameters of the address name, as the routes of the API take it.
 * @param {Record<string, string>} params
 * @returns {{namespace?: string, idPrefix?: string, filter?: any}}
 */
export function scopeOf(params) {
  const filter = parseFilter(params.filter);
  return {
    ...(params.namespace ? { namespace: params.namespace } : {}),
    ...(params.prefix ? { idPrefix: params.prefix } : {}),
    ...(filter ? { filter } : {}),
  };
}

/** The header without which a query's filter has the platform's operators alone. */
export const EXTENDED = { "vicinal-filter": "extended" };

/**
 * A text field that says its value when it is left or Enter is pressed.
 * @param {{label: string, value: string | undefined, onChange: (value: string) => void, size?: number, placeholder?: string, isMain?: boolean}} props
 */
export function TextParam({ label, value = "", onChange, size = 14, placeholder = label, isMain = false }) {
  return html`<${TextInput} aria-label=${label} size=${size} placeholder=${placeholder} value=${value} data-main=${isMain || undefined} onChange=${onChange} />`;
}

/**
 * The index that a page is about; another is chosen here.
 * @param {{page: string, names: string[] | undefined, name: string}} props
 */
export const IndexChoice = ({ page, names, name }) =>
  html`<${LabelledChoice} label="Index" value=${name} options=${names?.includes(name) ? names : [name, ...(names ?? [])]} onChange=${(next) => go(page, [next])} />`;

/**
 * @param {{index: IndexState | undefined, hasPrefix?: boolean, isQuiet?: boolean, onBackfilled?: () => void}} props `isQuiet`: tell what is not covered only of properties in the filter
 */
export function ScopeControls({ index, hasPrefix = true, isQuiet = false, onBackfilled }) {
  const { params } = useRoute();
  return html`
    <div class="controls">
      <${TextParam} label="Namespace" placeholder="namespace" value=${params.namespace} onChange=${(namespace) => setParams({ namespace, cursor: "" })} />
      ${hasPrefix && html`<${TextParam} label="Prefix of ids" placeholder="id prefix" isMain value=${params.prefix} onChange=${(prefix) => setParams({ prefix, cursor: "" })} />`}
      <${FilterBuilder} text=${params.filter} properties=${index?.properties ?? []} onChange=${(filter) => setParams({ filter, cursor: "" })} />
    </div>
    <${Coverage} index=${index} filter=${isQuiet ? (params.filter ?? "") : null} onBackfilled=${onBackfilled} />
  `;
}

/**
 * Metadata indexes that do not know all vectors; with a filter only those that it names.
 * @param {{index: IndexState | undefined, filter: string | null, onBackfilled?: () => void}} props
 */
function Coverage({ index, filter, onBackfilled }) {
  const partial = index?.properties.filter(({ name, covered, count: all }) => covered < all && (filter === null || filter.includes(JSON.stringify(name)))) ?? [];
  return partial.map((property) => html`<${Backfill} key=${property.name} indexName=${index?.name} property=${property} onDone=${onBackfilled} />`);
}

/** @param {{indexName: string, property: Property, onDone?: () => void}} props */
function Backfill({ indexName, property, onDone }) {
  const { isBusy, error, run } = useAction();
  const { name, type, covered, count: all } = property;
  const action = createMetadataIndex(account(), indexName, name, type, true);
  const backfill = async () => {
    if (await run(() => ask(action.path, { body: action.body, headers: WAIT }))) onDone?.();
  };
  return html`
    <div class="notice coverage">
      <span>The metadata index of <b>${name}</b> covers ${count(covered)} of ${counted(all, "vector")}: filters by it do not find the others.</span>
      <${Bar} share=${all ? covered / all : 1} />
      ${session.mayWrite && html`<button disabled=${isBusy} onClick=${backfill}>Backfill</button>`}
      <${Problem} error=${error} />
      ${session.mayWrite && html`<${Code} action=${action} />`}
    </div>
  `;
}

/**
 * Create a metadata index, which filters need.
 * @param {{indexName: string, paths: string[], onClose: () => void, onDone: () => void}} props
 */
export function MetadataIndexDialog({ indexName, paths, onClose, onDone }) {
  const [name, setName] = useState(paths[0] ?? "");
  const [type, setType] = useState("string");
  const [isBackfilled, setBackfilled] = useState(true);
  const { isBusy, error, run } = useAction();
  const action = createMetadataIndex(account(), indexName, name, type, isBackfilled);
  const submit = async (event) => {
    event.preventDefault();
    if (await run(() => ask(`${indexPath(account(), indexName)}/metadata_index/create`, { body: action.body, headers: WAIT }))) onDone();
  };
  return html`
    <${Dialog} title="Create metadata index" onClose=${onClose}>
      <form onSubmit=${submit}>
        <${Field} label="Property" hint="dots lead into nested objects">
          <input autofocus required list="paths" autocomplete="off" spellcheck=${false} value=${name} onInput=${(event) => setName(event.currentTarget.value)} />
        <//>
        <datalist id="paths">${paths.map((path) => html`<option key=${path} value=${path}></option>`)}</datalist>
        <${Field} label="Type"><${Choice} label="Type" value=${type} options=${["string", "number", "boolean", ["text", "text: words to search for"]]} onChange=${setType} /><//>
        <label class="check"><input type="checkbox" checked=${isBackfilled} onChange=${(event) => setBackfilled(event.currentTarget.checked)} /> of the vectors that are there, too (backfill)</label>
        <${Problem} error=${error} />
        <footer><button class="primary" disabled=${isBusy}>Create</button></footer>
      </form>
      <${Code} action=${action} />
    <//>
  `;
}
