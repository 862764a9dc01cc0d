/**
 * Search: by text, by vector or by the id of a stored one; with what was planned, what each step
 * took, and how much of the exact answer this effort finds.
 */
import { html, useMemo, useState } from "../core/html.js";
import { ask, askWithMessages, embed, indexPath } from "../core/api.js";
import { embedding, query as queryAction } from "../core/commands.js";
import { counted, milliseconds, score, title } from "../core/format.js";
import { useAction, useLoaded } from "../core/hooks.js";
import { models, useIndex, useNames } from "../core/indexes.js";
import { account, link, setParams, useRoute } from "../core/route.js";
import { Bar, Code, Empty, LabelledChoice, Notices, Problem } from "../parts/basics.js";
import { Plan, work } from "../parts/plan.js";
import { EXTENDED, IndexChoice, ScopeControls, scopeOf, TextParam } from "../parts/scope.js";
import { Table } from "../parts/table.js";

const EFFORTS = /** @type {[string, string][]} */ ([["", "of the index"], ["low", "low"], ["standard", "standard"], ["high", "high"], ["exact", "exact"]]);
const TOP_KS = ["5", "10", "20", "50", "100"];
const FULL_MAX = 50; // matches with all of their metadata, in every profile of limits

/** Ways to search -> what they are called; the last two need a text index. */
const WAYS = { text: "text", vector: "vector", id: "id", words: "words", both: "text and words" };
const OF_WORDS = ["words", "both"];
const OF_TEXTS = ["text", "both"]; // whose vector is searched for

/** @typedef {{score: number, rank?: number}} PartScore */
/** @typedef {{id: string, score: number, namespace?: string, metadata?: Record<string, unknown>, scores?: {vector?: PartScore, text?: PartScore}}} Match */
/** @typedef {import("../parts/plan.js").Step} Step */

/** What is searched for: the address without what only changes how it is shown. @param {Record<string, string>} params */
const sourceOf = ({ by = "text", text = "", vector = "", id = "", model = "" }) => ({ by, text, vector, id, model });

/**
 * Return the member of a query that says what is near to what, null where nothing is asked yet.
 * @param {ReturnType<typeof sourceOf>} source
 * @param {string | undefined} model
 * @param {AbortSignal} signal
 * @returns {Promise<Record<string, unknown> | null>}
 */
async function target(source, model, signal) {
  if (source.by === "id") return source.id ? { vectorId: source.id } : null;
  if (source.by === "vector") return source.vector ? { vector: JSON.parse(source.vector) } : null;
  if (!source.text) return null;
  if (source.by === "words") return { text: source.text };
  if (!model) throw new Error("no model of this server makes vectors of this index's dimensions");
  const vector = await embed(account(), model, source.text, signal);
  return source.by === "both" ? { vector, text: source.text, returnScores: true } : { vector };
}

/** @param {Record<string, string>} params @param {object} searched */
function bodyOf(params, searched) {
  const { namespace, filter } = scopeOf(params);
  const topK = Number(params.topK ?? "10");
  return { ...searched, topK, ...(namespace ? { namespace } : {}), ...(filter ? { filter } : {}), returnMetadata: topK > FULL_MAX ? "indexed" : "all" };
}

/** @param {string} effort */
const headersOf = (effort) => ({ ...EXTENDED, "vicinal-explain": "true", ...(effort ? { "vicinal-effort": effort } : {}) });

export function SearchPage() {
  const { parts: [chosen], params } = useRoute();
  const names = useNames();
  const name = chosen ?? names.data?.[0];
  if (!name) return html`<section class="page"><${Problem} error=${names.error} />${names.data && html`<${Empty}>No index yet. <a href=${link("indexes")}>Create one.</a><//>`}</section>`;
  return html`<${Search} key=${name} name=${name} names=${names.data} params=${params} />`;
}

/** @param {{name: string, names: string[] | undefined, params: Record<string, string>}} props */
function Search({ name, names, params }) {
  const index = useIndex(name);
  const fitting = useLoaded(async (signal) => (index.data ? models(index.data.config, signal) : []), [index.data?.name]);
  const source = sourceOf(params);
  const model = source.model || fitting.data?.[0];
  const isReady = !OF_TEXTS.includes(source.by) || !fitting.isLoading;
  const found = useLoaded(async (signal) => {
    const searched = isReady ? await target(source, model, signal) : null;
    if (!searched) return null;
    const body = bodyOf(params, searched);
    const answer = await askWithMessages(`${indexPath(account(), name)}/query`, { body, headers: headersOf(params.effort ?? ""), signal });
    const embedded = model && OF_TEXTS.includes(source.by) ? { model, text: source.text } : null;
    return { body, embedded, ...answer };
  }, [name, isReady, model, JSON.stringify([source, scopeOf(params), params.topK, params.effort])]);
  return html`
    <section class="page">
      <header class="bar-head">
        <h1>Search</h1>
        <${IndexChoice} page="search" names=${names} name=${name} />
        <p class="faint">${index.data && `${counted(index.data.vectorCount, "vector")}, ${index.data.config.metric}`}</p>
      </header>
      <${Source} source=${source} hasTexts=${(index.data?.texts.length ?? 0) > 0} models=${fitting.data ?? []} model=${model} />
      <div class="controls">
        <${LabelledChoice} label="Matches" value=${params.topK ?? "10"} options=${TOP_KS} onChange=${(topK) => setParams({ topK })} />
        <${LabelledChoice} label="Effort" value=${params.effort ?? ""} options=${EFFORTS} onChange=${(effort) => setParams({ effort })} />
        <a href=${link("map", [name], { ...source, namespace: params.namespace, filter: params.filter })}>on the map</a>
      </div>
      <${ScopeControls} index=${index.data} hasPrefix=${false} isQuiet onBackfilled=${() => { index.reload(); found.reload(); }} />
      <${Problem} error=${index.error ?? found.error} />
      <${Notices} messages=${found.data?.messages} />
      ${found.data && html`<${Results} key=${name} name=${name} found=${found.data} metric=${index.data?.config.metric ?? "cosine"} effort=${params.effort ?? ""} />`}
    </section>
  `;
}

/** @param {{source: ReturnType<typeof sourceOf>, hasTexts: boolean, models: string[], model: string | undefined}} props */
function Source({ source, hasTexts, models: names, model }) {
  const ways = Object.entries(WAYS).filter(([by]) => hasTexts || !OF_WORDS.includes(by) || by === source.by);
  const isText = source.by === "text" || OF_WORDS.includes(source.by);
  return html`
    <div class="controls">
      <div class="tabs" role="group" aria-label="Search by">
        ${ways.map(([by, label]) => html`<button key=${by} class="tab" aria-pressed=${source.by === by} onClick=${() => setParams({ by })}>${label}</button>`)}
      </div>
      ${isText && html`<${TextParam} label="Text to search for" placeholder=${WAYS[source.by]} size=${48} isMain value=${source.text} onChange=${(text) => setParams({ text })} />`}
      ${isText && source.by !== "words" && html`
        <${LabelledChoice} label="Model" value=${model ?? ""} options=${names.length ? names : [/** @type {[string, string]} */ (["", "no fitting model"])]} onChange=${(next) => setParams({ model: next })} />`}
      ${source.by === "id" && html`<${TextParam} label="Id of a stored vector" placeholder="id" size=${32} isMain value=${source.id} onChange=${(id) => setParams({ id })} />`}
      ${source.by === "vector" && html`<${TextParam} label="Vector as JSON" placeholder="[0.1, 0.2, …]" size=${60} isMain value=${source.vector} onChange=${(vector) => setParams({ vector })} />`}
    </div>
  `;
}

/**
 * @param {{name: string, found: {body: any, embedded: {model: string, text: string} | null, result: {matches: Match[], explain?: Step[]}}, metric: string, effort: string}} props
 */
function Results({ name, found, metric, effort }) {
  const { body, embedded, result: { matches, explain = [] } } = found;
  const columns = useMemo(() => matchColumns(name, matches, body.text === undefined ? metric : "words"), [name, matches, metric]);
  return html`
    <div class="with-side">
      <div>
        ${matches.length
          ? html`<${Table} label="Matches" columns=${columns} rows=${matches} rowKey=${({ id }) => id} onOpen=${({ id }) => { location.hash = link("row", [name, id]); }} />`
          : html`<${Empty}>Nothing matches.<//>`}
        <${Code} action=${queryAction(account(), name, body, headersOf(effort))} />
        ${embedded && html`<${Code} action=${embedding(account(), embedded.model, embedded.text)} label="the vector of the text as code" />`}
      </div>
      <aside class="side" aria-label="How it was found">
        ${explain.length > 0 && html`<${Plan} steps=${explain} />`}
        ${body.text === undefined && html`<${Recall} key=${JSON.stringify([body, effort])} name=${name} body=${body} matches=${matches} steps=${explain} />`}
      </aside>
    </div>
  `;
}

/** What one of the two searches said of a match. @param {string} part */
const partColumn = (part) => ({
  name: `by ${part}`,
  show: ({ scores }) => (scores?.[part] ? `${score(scores[part].score)} #${scores[part].rank ?? "–"}` : ""),
  order: ({ scores }) => scores?.[part]?.score,
  isNumber: true,
});

/** @param {string} name @param {Match[]} matches @param {string} metric */
function matchColumns(name, matches, metric) {
  const scores = matches.map((match) => match.score);
  const [low, high] = [Math.min(0, ...scores), Math.max(...scores)];
  const nearest = Math.min(...scores);
  const share = metric === "euclidean"
    ? (value) => (value ? nearest / value : 1)
    : (value) => (high > low ? (value - low) / (high - low) : 1);
  return [
    { name: "score", show: (match) => html`<span class="scored"><${Bar} share=${share(match.score)} />${score(match.score)}</span>`, order: (match) => match.score, isNumber: true },
    ...(matches.some((match) => match.scores) ? ["vector", "text"].map((part) => partColumn(part)) : []),
    { name: "match", show: (match) => html`<a href=${link("row", [name, match.id])} class="clip wide">${title(match.id, match.metadata)}</a>` },
    { name: "id", show: ({ id }) => id, order: ({ id }) => id, className: "mono faint" },
    { name: "namespace", show: ({ namespace }) => namespace ?? "", order: ({ namespace }) => namespace ?? "", className: "faint" },
    { name: "metadata", show: ({ metadata }) => html`<span class="clip faint mono">${metadata ? JSON.stringify(metadata) : ""}</span>` },
  ];
}

/**
 * Share of the exact answer that was found. Of equal scores at the end of the list either counts.
 * @param {Match[]} matches
 * @param {Match[]} exact
 */
export function recall(matches, exact) {
  if (!exact.length) return 1;
  const ids = new Set(exact.map(({ id }) => id));
  const last = exact[exact.length - 1].score;
  return matches.filter(({ id, score: value }) => ids.has(id) || value === last).length / exact.length;
}

/** @param {{name: string, body: any, matches: Match[], steps: Step[]}} props */
function Recall({ name, body, matches, steps }) {
  const [answer, setAnswer] = useState(/** @type {{matches: Match[], explain?: Step[]} | null} */ (null));
  const { isBusy, error, run } = useAction();
  const compare = () => run(async () => {
    setAnswer(await ask(`${indexPath(account(), name)}/query`, { body: { ...body, returnMetadata: "none" }, headers: headersOf("exact") }));
  });
  const took = (all) => milliseconds(work(all));
  return html`
    <h2>Recall</h2>
    ${answer
      ? html`<p>Found: <b class="big">${recall(matches, answer.matches).toFixed(3)}</b> of the exact ${counted(answer.matches.length, "match", "matches")}, with ${took(steps)} of work; an exact search takes ${took(answer.explain ?? [])}.</p>`
      : html`<p class="faint">How much of the exact answer does this effort find, for this query?</p>`}
    <button disabled=${isBusy} onClick=${compare}>Compare with exact</button>
    <${Problem} error=${error} />
  `;
}
