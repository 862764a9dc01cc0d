/**
 * The map of an index, or of the vectors that a filter lets pass: near points are near vectors.
 */
import { html, useEffect, useMemo, useRef, useState } from "../core/html.js";
import { ask, embed, indexPath } from "../core/api.js";
import { embedding, scoped } from "../core/commands.js";
import { at, cell, count, counted, paths, title } from "../core/format.js";
import { useLoaded } from "../core/hooks.js";
import { models, useIndex, useNames } from "../core/indexes.js";
import { account, go, link, setParams, useRoute } from "../core/route.js";
import { MapCanvas } from "../map/canvas.js";
import { colorsOf, NONE, ofCategory, OTHER, ramp, range } from "../map/colors.js";
import { loadMap } from "../map/read.js";
import { Selection } from "../map/selection.js";
import { Code, Empty, LabelledChoice, Problem } from "../parts/basics.js";
import { IndexChoice, ScopeControls, scopeOf, TextParam } from "../parts/scope.js";

/** @typedef {import("../map/read.js").PointMap} PointMap */

const LAYOUTS = /** @type {[string, string][]} */ ([["axes", "by principal axes"], ["neighbors", "by neighbours"]]);
/** How many points may be drawn, by layout; the server has the same bounds. */
const COUNTS = { axes: ["2000", "20000", "100000"], neighbors: ["1000", "2000", "5000"] };
const HOVER_MS = 120; // before a point's metadata is asked for
const SCORE = "score to the query";

/**
 * Return the model that makes the vector of the text that is drawn in, null where no text is.
 * @param {Record<string, string>} params
 * @param {import("../core/indexes.js").IndexState} index
 * @param {AbortSignal} signal
 */
async function modelOf({ by = "text", text, model }, index, signal) {
  if (by === "vector" || by === "id" || !text) return null;
  const used = model || (await models(index.config, signal))[0];
  if (!used) throw new Error("no model of this server makes vectors of this index's dimensions");
  return used;
}

/**
 * Return the vector that the address asks for, null for none.
 * @param {Record<string, string>} params
 * @param {string | null} model that makes the vector of a text
 * @param {string} name
 * @param {AbortSignal} signal
 * @returns {Promise<number[] | null>}
 */
async function queryVector({ by, text, id, vector }, model, name, signal) {
  if (by === "vector") return vector ? JSON.parse(vector) : null;
  if (by === "id") return id ? (await ask(`${indexPath(account(), name)}/get_by_ids`, { body: { ids: [id] }, signal }))[0]?.values ?? null : null;
  return model ? embed(account(), model, text, signal) : null;
}

export function MapPage() {
  const { parts: [chosen], params } = useRoute();
  const names = useNames();
  const name = chosen ?? names.data?.[0];
  if (!name) return html`<section class="page"><${Problem} error=${names.error} />${names.data && html`<${Empty}>No index yet. <a href=${link("indexes")}>Create one.</a><//>`}</section>`;
  return html`<${MapOf} key=${name} name=${name} names=${names.data} params=${params} />`;
}

/** @param {{name: string, names: string[] | undefined, params: Record<string, string>}} props */
function MapOf({ name, names, params }) {
  const index = useIndex(name);
  const layout = params.layout === "neighbors" ? "neighbors" : "axes";
  const points = COUNTS[layout].includes(params.points) ? params.points : COUNTS[layout][1];
  const property = params.color && params.color !== SCORE ? params.color : undefined;
  const asked = JSON.stringify([params.by, params.text, params.id, params.vector, params.model]);
  const body = { ...scopeOf(params), layout, count: Number(points), ...(property ? { propertyName: property } : {}) };
  const isReady = index.data !== undefined;
  const loaded = useLoaded(async (signal) => {
    if (!index.data) return null;
    const start = performance.now();
    const model = await modelOf(params, index.data, signal);
    const vector = await queryVector(params, model, name, signal);
    const sent = vector ? { ...body, vector } : body;
    return { map: await loadMap(account(), name, sent, signal), took: performance.now() - start, body: sent, embedded: model && { model, text: params.text } };
  }, [isReady, JSON.stringify(body), asked]);
  const properties = useProperties(name, index.data);
  return html`
    <section class="page">
      <header class="bar-head">
        <h1>Map</h1>
        <${IndexChoice} page="map" names=${names} name=${name} />
        <${TextParam} label="Text to search for" placeholder="query, drawn in" size=${26} isMain value=${params.by === "id" ? `id: ${params.id ?? ""}` : params.text} onChange=${(text) => setParams({ by: "", id: "", text, color: text ? SCORE : "" })} />
        <${LabelledChoice} label="Layout" value=${layout} options=${LAYOUTS} onChange=${(next) => setParams({ layout: next, view: "" })} />
        <${LabelledChoice} label="Points" value=${points} options=${COUNTS[layout].map((value) => [value, `≤ ${count(Number(value))}`])} onChange=${(next) => setParams({ points: next })} />
        <${LabelledChoice} label="Colour" value=${params.color ?? ""} options=${[["", "one colour"], ...(loaded.data?.map.scores ? [[SCORE, SCORE]] : []), ...properties.map((each) => [each, `by ${each}`])]} onChange=${(color) => setParams({ color })} />
      </header>
      <${ScopeControls} index=${index.data} isQuiet onBackfilled=${index.reload} />
      <${Problem} error=${index.error ?? loaded.error} />
      ${loaded.data && html`<${Shown} name=${name} map=${loaded.data.map} params=${params} took=${loaded.data.took} isLoading=${loaded.isLoading} metric=${index.data?.config.metric} onChanged=${loaded.reload} />`}
      ${!loaded.data && loaded.isLoading && html`<${Empty}>The map is drawn up…<//>`}
      <${Code} action=${{ ...scoped(account(), name, "map", loaded.data?.body ?? body), output: "map.bin" }} />
      ${loaded.data?.embedded && html`<${Code} action=${embedding(account(), loaded.data.embedded.model, loaded.data.embedded.text)} label="the vector of the text as code" />`}
    </section>
  `;
}

/** Properties that points can be coloured by: the indexed ones, and those of some vectors. @param {string} name @param {import("../core/indexes.js").IndexState | undefined} index */
function useProperties(name, index) {
  const some = useLoaded(async (signal) => (await ask(`${indexPath(account(), name)}/vectors/list`, { body: { count: 50, returnMetadata: true }, signal })).vectors, [name]);
  return useMemo(() => [...new Set([...(index?.properties.map((each) => each.name) ?? []), ...paths((some.data ?? []).map(({ metadata }) => metadata))])], [index, some.data]);
}

/** @param {string | undefined} text @returns {import("../map/view.js").View | null} */
function viewOf(text) {
  const [x, y, zoom] = (text ?? "").split(",").map(Number);
  return text && [x, y, zoom].every(Number.isFinite) && zoom > 0 ? { x, y, zoom } : null;
}

/**
 * @param {{name: string, map: PointMap, params: Record<string, string>, took: number, isLoading: boolean, metric: string | undefined, onChanged: () => void}} props
 */
function Shown({ name, map, params, took, isLoading, metric, onChanged }) {
  const [hovered, setHovered] = useState(-1);
  const [isLasso, setLasso] = useState(false);
  const [selected, setSelected] = useState(/** @type {number[]} */ ([]));
  useEffect(() => setSelected([]), [map]);
  const isScore = params.color === SCORE && map.scores !== null;
  const values = isScore ? map.scores : map.values;
  const isCategories = !isScore && map.categories !== null;
  const isReversed = isScore && metric === "euclidean"; // a distance: the least is the nearest
  const colors = useMemo(
    () => colorsOf(map.ids.length, { values, isCategories, isReversed, selected: selected.length ? new Set(selected) : null }),
    [map, values, isCategories, isReversed, selected],
  );
  const ids = useMemo(() => selected.map((number) => map.ids[number]), [map, selected]);
  const shownView = (view) => setParams({ view: view ? [view.x, view.y, view.zoom].map((value) => value.toPrecision(6)).join(",") : "" });
  return html`
    <div class="with-side">
      <div class="map">
        <${MapCanvas} map=${map} colors=${colors} isLasso=${isLasso} view=${viewOf(params.view)} onView=${shownView} onHover=${setHovered}
          onOpen=${(number) => go("row", [name, map.ids[number]])} onSelect=${setSelected} />
        <div class="tools">
          <button aria-pressed=${isLasso} class=${isLasso ? "primary" : ""} title="Draw around points (or hold Shift)" onClick=${() => setLasso(!isLasso)}>lasso</button>
          <button title="Show all (0)" onClick=${() => shownView(null)}>fit</button>
        </div>
        <p class="state" role="status">${isLoading ? "…" : `${map.totalCount > map.ids.length ? `${count(map.ids.length)} of ` : ""}${counted(map.totalCount, "vector")}, ${Math.round(took)} ms`}</p>
      </div>
      <aside class="side" aria-label="About the map">
        ${selected.length
          ? html`<${Selection} name=${name} ids=${ids} onChanged=${onChanged} onClear=${() => setSelected([])} />`
          : html`<${Hovered} name=${name} id=${map.ids[hovered]} score=${map.scores?.[hovered]} /><${Legend} map=${map} values=${values} isCategories=${isCategories} isReversed=${isReversed} /><${About} map=${map} />`}
      </aside>
    </div>
  `;
}

/** The vector below the pointer. @param {{name: string, id: string | undefined, score: number | undefined}} props */
function Hovered({ name, id, score }) {
  const [wanted, setWanted] = useState(id);
  const timer = useRef(0);
  useEffect(() => {
    timer.current = setTimeout(() => setWanted(id), HOVER_MS);
    return () => clearTimeout(timer.current);
  }, [id]);
  const { data } = useLoaded(async (signal) => (wanted ? (await ask(`${indexPath(account(), name)}/get_by_ids`, { body: { ids: [wanted] }, signal }))[0] : null), [name, wanted]);
  if (!id) return html`<p class="faint">Point at a vector to read about it; a click opens it.</p>`;
  const metadata = data?.id === id ? data.metadata : undefined;
  return html`
    <div data-hovered=${id}>
      <h2>${title(id, metadata)}</h2>
      <p class="mono faint"><bdi>${id}</bdi>${score === undefined ? "" : ` · ${score.toFixed(4)}`}</p>
      <dl class="keys">${paths([metadata]).slice(0, 12).map((path) => html`<dt key=${path} class="faint">${path}</dt><dd class="clip">${cell(at(metadata, path))}</dd>`)}</dl>
    </div>
  `;
}

/** @param {{map: PointMap, values: Float32Array | null, isCategories: boolean, isReversed: boolean}} props */
function Legend({ map, values, isCategories, isReversed }) {
  if (!values) return null;
  if (!isCategories) {
    const [first, last] = isReversed ? range(values).reverse() : range(values);
    return html`<h2>Colour</h2><div class="ramp" style=${{ background: ramp }}></div><p class="row faint" data-range><span>${Number(first.toPrecision(4))}</span><span style=${{ marginLeft: "auto" }}>${Number(last.toPrecision(4))}</span></p>`;
  }
  const counts = new Map();
  for (const value of values) {
    const key = Number.isNaN(value) ? "none" : value < 0 ? "other" : String(value);
    counts.set(key, (counts.get(key) ?? 0) + 1);
  }
  const rows = [
    ...(map.categories ?? []).map((label, number) => [label, ofCategory(number), counts.get(String(number)) ?? 0]),
    ["other values", OTHER, counts.get("other") ?? 0],
    ["no value", NONE, counts.get("none") ?? 0],
  ].filter(([, , points]) => points);
  return html`<h2>Colour</h2><ul class="swatches">${rows.map(([label, color, points]) => html`<li key=${label}><i style=${{ background: color }}></i><span>${label}</span><b class="faint">${count(points)}</b></li>`)}</ul>`;
}

/** What the picture means, and what it does not. @param {{map: PointMap}} props */
function About({ map }) {
  const [first, second] = map.explained.map((share) => `${(share * 100).toFixed(0)} %`);
  return html`
    <h2>What this shows</h2>
    ${map.layout === "axes"
      ? html`<p class="faint">The two directions in which these vectors differ most, with ${first} and ${second} of their variance. What differs in other directions lies on top of each other.</p>`
      : html`<p class="faint">Each vector is drawn to the 15 nearest and kept away from others. Groups mean something; axes, and how wide a gap is, do not.</p>`}
    ${map.totalCount > map.ids.length && html`<p class="faint">A sample: ${count(map.ids.length)} of ${counted(map.totalCount, "vector")}, from everywhere in the index.</p>`}
  `;
}

