/**
 * The vectors of an index as a table: by namespace, prefix and filter, page by page, with the
 * frequent values of a property beside it.
 */
import { html, useEffect, useMemo, useState } from "../core/html.js";
import { ask, failure, indexPath, save, send, WAIT } from "../core/api.js";
import { scoped } from "../core/commands.js";
import { at, cell, count, counted, paths } from "../core/format.js";
import { useAction, useLoaded } from "../core/hooks.js";
import { useIndex, useNames } from "../core/indexes.js";
import { account, go, link, setParams, useRoute } from "../core/route.js";
import { session } from "../core/session.js";
import { Bar, Code, Empty, LabelledChoice, Problem, TypedConfirmation } from "../parts/basics.js";
import { IndexChoice, MetadataIndexDialog, ScopeControls, scopeOf } from "../parts/scope.js";
import { Table } from "../parts/table.js";

const PAGE_ROWS = 100;
const EXPORT_NUMBERS_MAX = 50_000_000; // in values, which a browser holds as text: about a gigabyte
const COLUMNS_MAX = 8; // of metadata that are shown, the most frequent ones

/** @typedef {{id: string, namespace?: string, metadata?: Record<string, unknown>}} Listed */

/**
 * The rows that have come: further pages are added as they are asked for.
 * @param {string} name
 * @param {Record<string, string>} params
 */
function useRows(name, params) {
  const key = JSON.stringify([account(), name, scopeOf(params)]);
  const first = useLoaded(
    (signal) => ask(`${indexPath(account(), name)}/vectors/list`, { body: { ...scopeOf(params), count: PAGE_ROWS, returnMetadata: true }, signal }),
    [key],
  );
  const [more, setMore] = useState(/** @type {{rows: Listed[], cursor: string | null}} */ ({ rows: [], cursor: null }));
  const { isBusy, error, run } = useAction();
  useEffect(() => setMore({ rows: [], cursor: first.data?.nextCursor ?? null }), [first.data]);
  const next = () => run(async () => {
    const page = await ask(`${indexPath(account(), name)}/vectors/list`, { body: { cursor: more.cursor, count: PAGE_ROWS, returnMetadata: true } });
    setMore(({ rows }) => ({ rows: [...rows, ...page.vectors], cursor: page.nextCursor }));
  });
  const rows = useMemo(() => /** @type {Listed[]} */ ([...(first.data?.vectors ?? []), ...more.rows]), [first.data, more]);
  return { rows, total: first.data?.totalCount, hasMore: more.cursor !== null, next, isBusy: isBusy || first.isLoading, error: first.error ?? error, reload: first.reload };
}

export function BrowsePage() {
  const { parts: [chosen], params } = useRoute();
  const names = useNames();
  const name = chosen ?? names.data?.[0];
  if (!name) return html`<section class="page"><${Problem} error=${names.error} />${names.data && html`<${Empty}>No index yet. <a href=${link("indexes")}>Create one.</a><//>`}</section>`;
  return html`<${Browse} key=${name} name=${name} names=${names.data} params=${params} />`;
}

/** @param {{name: string, names: string[] | undefined, params: Record<string, string>}} props */
function Browse({ name, names, params }) {
  const index = useIndex(name);
  const listing = useRows(name, params);
  const [dialog, setDialog] = useState("");
  const metadataPaths = useMemo(() => paths(listing.rows.map(({ metadata }) => metadata)), [listing.rows]);
  const columns = useMemo(() => columnsOf(metadataPaths.slice(0, COLUMNS_MAX), index.data), [metadataPaths, index.data]);
  const changed = () => {
    setDialog("");
    index.reload();
    listing.reload();
  };
  return html`
    <section class="page">
      <header class="bar-head">
        <h1>Browse</h1>
        <${IndexChoice} page="browse" names=${names} name=${name} />
        <p class="faint">${listing.total !== undefined && `${count(listing.total)} of ${counted(index.data?.vectorCount, "vector")}`}</p>
        <span class="actions">
          <a href=${link("map", [name], { namespace: params.namespace, prefix: params.prefix, filter: params.filter })}>map of these</a>
          <${Export} name=${name} params=${params} count=${(listing.total ?? 0) * (index.data?.config.dimensions ?? 0)} />
          ${session.mayWrite && html`
            <button class="quiet" onClick=${() => setDialog("metadata")}>+ metadata index</button>
            <button class="quiet" disabled=${!Object.keys(scopeOf(params)).length} title="Choose a namespace, a prefix or a filter first" onClick=${() => setDialog("delete")}>delete these</button>`}
        </span>
      </header>
      <${ScopeControls} index=${index.data} onBackfilled=${changed} />
      <${Problem} error=${index.error ?? listing.error} />
      <div class="with-side">
        <div>
          ${listing.rows.length
            ? html`<${Table} label="Vectors" columns=${columns} rows=${listing.rows} rowKey=${({ id }) => id} onOpen=${({ id }) => go("row", [name, id])} />`
            : !listing.isBusy && html`<${Empty}>Nothing here.<//>`}
          ${listing.hasMore && html`<button class="more" disabled=${listing.isBusy} onClick=${listing.next}>${count(listing.rows.length)} shown, more</button>`}
        </div>
        <${Facets} name=${name} params=${params} index=${index.data} />
      </div>
      <${Code} action=${scoped(account(), name, "list", { ...scopeOf(params), count: PAGE_ROWS, returnMetadata: true })} />
      <${Code} action=${scoped(account(), name, "export", scopeOf(params))} label="export as code" />
      ${dialog === "metadata" && html`<${MetadataIndexDialog} indexName=${name} paths=${metadataPaths} onClose=${() => setDialog("")} onDone=${changed} />`}
      ${dialog === "delete" && html`<${DeleteScope} name=${name} params=${params} total=${listing.total} onClose=${() => setDialog("")} onDone=${changed} />`}
    </section>
  `;
}

/** @param {string[]} shown @param {import("../core/indexes.js").IndexState | undefined} index */
function columnsOf(shown, index) {
  const indexed = new Set(index?.properties.map(({ name }) => name));
  const indexName = index?.name ?? "";
  return [
    { name: "id", show: ({ id }) => html`<a href=${link("row", [indexName, id])}>${id}</a>`, order: ({ id }) => id, className: "mono" },
    { name: "namespace", show: ({ namespace }) => namespace ?? "", order: ({ namespace }) => namespace ?? "", className: "faint" },
    ...shown.map((path) => ({
      name: path,
      show: ({ metadata }) => html`<span class="clip" title=${indexed.has(path) ? "indexed" : ""}>${cell(at(metadata, path))}</span>`,
      order: ({ metadata }) => /** @type {any} */ (at(metadata, path)),
      isNumber: false,
    })),
  ];
}

/** @param {{name: string, params: Record<string, string>, count: number}} props `count` of numbers in the values */
function Export({ name, params, count: numbers }) {
  const { isBusy, error, run } = useAction();
  const start = () => run(async () => {
    const response = await send(`${indexPath(account(), name)}/vectors/export`, { body: scopeOf(params) });
    if (!response.ok) throw await failure(response);
    save(await response.blob(), `${name}.ndjson`);
  });
  const isLong = numbers > EXPORT_NUMBERS_MAX;
  const hint = isLong ? "Too much for a browser's memory: use vicinal export" : "As NDJSON, in the form that an import takes";
  return html`<button class="quiet" disabled=${isBusy || isLong} title=${error?.message ?? hint} onClick=${start}>${error ? "export failed" : "export"}</button>`;
}

/** @param {{name: string, params: Record<string, string>, total: number | undefined, onClose: () => void, onDone: () => void}} props */
function DeleteScope({ name, params, total, onClose, onDone }) {
  const { isBusy, error, run } = useAction();
  const action = scoped(account(), name, "delete", scopeOf(params));
  const confirm = async () => {
    if (await run(() => ask(action.path, { body: action.body, headers: WAIT }))) onDone();
  };
  return html`
    <${TypedConfirmation} title="Delete vectors" name=${name} verb="Delete" action=${action} isBusy=${isBusy} error=${error} onConfirm=${confirm} onClose=${onClose}
      text=${html`${counted(total, "vector")} of <b>${name}</b> now ${total === 1 ? "matches and" : "match and"} will be deleted in one write.`} />
  `;
}

/** @param {{name: string, params: Record<string, string>, index: import("../core/indexes.js").IndexState | undefined}} props */
function Facets({ name, params, index }) {
  const names = index?.properties.map((property) => property.name) ?? [];
  const property = names.includes(params.facet) ? params.facet : names[0];
  const { data, error } = useLoaded(
    async (signal) => (property ? ask(`${indexPath(account(), name)}/vectors/facets`, { body: { ...scopeOf(params), propertyName: property, count: 20 }, signal }) : null),
    [name, property, JSON.stringify(scopeOf(params))],
  );
  if (!property) return html`<aside class="side faint"><p>A property with a metadata index can be filtered by and counted.</p></aside>`;
  const narrow = (value) => setParams({ filter: JSON.stringify({ ...scopeOf(params).filter, [property]: { $eq: value } }) });
  const most = data?.values[0]?.count ?? 1;
  return html`
    <aside class="side" aria-label="Values">
      <${LabelledChoice} label="Property to count" value=${property} options=${names} onChange=${(facet) => setParams({ facet })} />
      <${Problem} error=${error} />
      ${data && html`
        <ul class="facets">
          ${data.values.map(({ value, count: vectors }) => html`
            <li key=${String(value)}><button class="quiet" onClick=${() => narrow(value)}><span>${String(value)}</span><b>${count(vectors)}</b><${Bar} share=${vectors / most} /></button></li>`)}
        </ul>
        <p class="faint">${counted(data.distinctCount, "value")} in ${count(data.valueCount)} of ${counted(data.vectorCount, "vector")}</p>`}
    </aside>
  `;
}

