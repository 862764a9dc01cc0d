/**
 * The parts of an index: its segments and its memtable, with their vectors and bytes.
 */
import { html } from "../core/html.js";
import { ask, indexPath } from "../core/api.js";
import { bytes, count, counted } from "../core/format.js";
import { useLoaded, usePoll } from "../core/hooks.js";
import { useNames } from "../core/indexes.js";
import { account, setParams, useRoute } from "../core/route.js";
import { Bar, Code, Empty, LabelledChoice, Problem } from "../parts/basics.js";
import { Table } from "../parts/table.js";

const POLL_MS = 3000;

/** @typedef {{name: string, vectorCount: number, deletedCount: number, byteCount: number}} Segment */

export function StoragePart() {
  const { params } = useRoute();
  const names = useNames();
  const name = params.index ?? names.data?.[0];
  if (!name) return html`<${Problem} error=${names.error} />${names.data && html`<${Empty}>No index yet.<//>`}`;
  return html`<${Storage} key=${name} name=${name} names=${names.data ?? [name]} />`;
}

/** @param {{name: string, names: string[]}} props */
function Storage({ name, names }) {
  const path = `${indexPath(account(), name)}/info?detail=true`;
  const { data, error, isLoading, reload } = useLoaded((signal) => ask(path, { signal }), [name]);
  usePoll(() => isLoading || reload(), POLL_MS);
  /** @type {Segment[]} */
  const segments = data?.segments ?? [];
  const most = Math.max(...segments.map((segment) => segment.byteCount), 1);
  const deleted = segments.reduce((sum, segment) => sum + segment.deletedCount, 0);
  const columns = [
    { name: "part", show: (segment) => segment.name, order: (segment) => segment.name, className: "mono" },
    { name: "vectors", show: (segment) => count(segment.vectorCount), order: (segment) => segment.vectorCount, isNumber: true },
    { name: "deleted", show: (segment) => count(segment.deletedCount), order: (segment) => segment.deletedCount, isNumber: true },
    { name: "bytes", show: (segment) => html`<span class="scored"><${Bar} share=${segment.byteCount / most} />${bytes(segment.byteCount)}</span>`, order: (segment) => segment.byteCount, isNumber: true },
  ];
  return html`
    <div class="controls">
      <${LabelledChoice} label="Index" value=${name} options=${names} onChange=${(index) => setParams({ index })} />
      <span class="faint">${data && `${counted(data.vectorCount, "vector")} in ${bytes(data.byteCount)}${deleted ? `, ${counted(deleted, "deleted row")} until a merge leaves ${deleted === 1 ? "it" : "them"} out` : ""}`}</span>
    </div>
    <${Problem} error=${error} />
    ${data && html`<${Table} label="Parts" columns=${columns} rows=${segments} rowKey=${(segment) => `${segment.name} ${segment.vectorCount} ${segment.byteCount}`} />`}
    <${Code} action=${{ method: "GET", path }} />
  `;
}
