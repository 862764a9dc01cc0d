/**
 * The newest slow queries, by their form, with what each part of their search took.
 */
import { html } from "../core/html.js";
import { ask } from "../core/api.js";
import { count, milliseconds, when } from "../core/format.js";
import { useLoaded, usePoll } from "../core/hooks.js";
import { link, setParams, useRoute } from "../core/route.js";
import { session } from "../core/session.js";
import { Bar, Code, Empty, Problem } from "../parts/basics.js";
import { Plan } from "../parts/plan.js";
import { Table } from "../parts/table.js";

const PATH = "client/v4/vicinal/slow-queries";
const POLL_MS = 5000;

/** @typedef {{at: string, requestId: string, account: string, index: string, milliseconds: number, isAnswered: boolean, by: string, topK: number, hasNamespace: boolean, filter: string, effort: string, matchCount: number, partCount: number, explain: import("../parts/plan.js").Step[]}} SlowQuery */

/** @param {SlowQuery} query */
const key = ({ at, requestId }) => `${at} ${requestId}`;

export function SlowQueries() {
  const { params } = useRoute();
  const { data, error, isLoading, reload } = useLoaded(async (signal) => (session.mayWrite ? ask(PATH, { signal }) : null), []);
  usePoll(() => isLoading || reload(), POLL_MS);
  if (!session.mayWrite) return html`<${Empty}>Slow queries need a token that may do everything.<//>`;
  if (!data) return html`<${Problem} error=${error} />`;
  /** @type {SlowQuery[]} */
  const queries = data.queries;
  const most = Math.max(...queries.map((query) => query.milliseconds), 1);
  const chosen = queries.find((query) => key(query) === params.query) ?? queries[0];
  const columns = [
    { name: "at", show: ({ at }) => when(at), order: ({ at }) => at, className: "faint" },
    { name: "took", show: (query) => html`<span class="scored"><${Bar} share=${query.milliseconds / most} />${milliseconds(query.milliseconds)}</span>`, order: (query) => query.milliseconds, isNumber: true },
    { name: "index", show: ({ account, index }) => html`<a href=${link("search", [index], { account })}>${account}/${index}</a>`, order: ({ account, index }) => `${account}/${index}`, className: "mono" },
    { name: "filter", show: ({ filter, hasNamespace }) => html`<span class="clip wide">${[hasNamespace && "namespace", filter].filter(Boolean).join(", ")}</span>`, order: ({ filter }) => filter, className: "mono" },
    { name: "by", show: ({ by }) => by, order: ({ by }) => by },
    { name: "top", show: ({ topK }) => count(topK), order: ({ topK }) => topK, isNumber: true },
    { name: "effort", show: ({ effort }) => effort, order: ({ effort }) => effort },
    { name: "matches", show: ({ isAnswered, matchCount }) => (isAnswered ? count(matchCount) : "not answered"), order: ({ matchCount }) => matchCount, isNumber: true },
  ];
  return html`
    <p class="faint">${data.thresholdMs ? `Queries that took ${milliseconds(data.thresholdMs)} or more, the newest ${count(queries.length)}; the setting is slow_query_s.` : "None are kept: the setting slow_query_s is 0."}</p>
    <${Problem} error=${error} />
    ${queries.length === 0
      ? html`<${Empty}>No query has been slow.<//>`
      : html`
        <div class="with-side">
          <${Table} label="Slow queries" columns=${columns} rows=${queries} rowKey=${key} selected=${chosen && key(chosen)} onOpen=${(query) => setParams({ query: key(query) })} />
          <aside class="side" aria-label="Explanation"><p class="mono faint">${chosen.requestId}</p><${Plan} steps=${chosen.explain} partCount=${chosen.partCount} /></aside>
        </div>`}
    <${Code} action=${{ method: "GET", path: PATH }} />
  `;
}
