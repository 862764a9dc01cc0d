/**
 * The server's metrics as charts: each reading is compared with the one before it.
 */
import { html, useEffect, useState } from "../core/html.js";
import { askText } from "../core/api.js";
import { bytes, count, milliseconds } from "../core/format.js";
import { useAction, usePoll } from "../core/hooks.js";
import { buckets, parse, quantile, sum } from "../core/metrics.js";
import { Bar, Problem } from "../parts/basics.js";
import { Chart } from "../parts/chart.js";
import { Table } from "../parts/table.js";

const POLL_MS = 2000;
const POINTS_MAX = 300; // ten minutes
const DURATIONS = "vicinal_request_duration_seconds";

/**
 * @typedef {object} Point what is drawn of one reading
 * @property {number} time in seconds
 * @property {number | null} rate
 * @property {number | null} failures
 * @property {number | null} p50
 * @property {number | null} p99
 * @property {number | null} underWay
 * @property {number | null} memory
 * @property {number | null} cpu
 * @property {number | null} disk
 * @property {number | null} waiting
 * @property {number | null} writes bytes that are accepted and not visible yet
 * @property {number | null} bodies bytes of requests in memory
 */

/** @typedef {{time: number, metrics: import("../core/metrics.js").Reading}} Reading */

/** Requests for metrics and pages are the dashboard's own. @param {Record<string, string>} labels */
const isOthers = ({ operation }) => !["metrics", "dashboard", "dashboard_file", "caller"].includes(operation);

/** @param {Reading} before @param {Reading} after @returns {Point} */
function point(before, after) {
  const seconds = after.time - before.time;
  const bounds = (reading) => buckets(reading.metrics, DURATIONS, isOthers);
  const [earlier, later] = [bounds(before), bounds(after)];
  const answered = (later.get(Infinity) ?? 0) - (earlier.get(Infinity) ?? 0);
  const failed = (reading) => buckets(reading.metrics, DURATIONS, (labels) => isOthers(labels) && labels.status >= "400").get(Infinity) ?? 0;
  const cpu = (reading) => sum(reading.metrics, "process_cpu_seconds_total");
  const quantileMs = (share) => {
    const value = quantile(earlier, later, share);
    return value === null ? null : value * 1000;
  };
  return {
    time: after.time,
    rate: answered / seconds,
    failures: (failed(after) - failed(before)) / seconds,
    p50: quantileMs(0.5),
    p99: quantileMs(0.99),
    underWay: sum(after.metrics, "vicinal_requests_in_progress"),
    memory: sum(after.metrics, "process_resident_memory_bytes"),
    cpu: ((cpu(after) ?? 0) - (cpu(before) ?? 0)) / seconds,
    disk: sum(after.metrics, "vicinal_index_disk_bytes"),
    waiting: sum(after.metrics, "vicinal_queue_requests"),
    writes: sum(after.metrics, "vicinal_write_queue_bytes"),
    bodies: sum(after.metrics, "vicinal_body_bytes_in_flight"),
  };
}

export function Live() {
  const [readings, setReadings] = useState(/** @type {{newest: Reading | null, points: Point[]}} */ ({ newest: null, points: [] }));
  const { isBusy, error, run } = useAction();
  const read = () => run(async () => {
    const newest = { time: Date.now() / 1000, metrics: parse(await askText("metrics")) };
    setReadings(({ newest: before, points }) => ({ newest, points: before ? [...points, point(before, newest)].slice(-POINTS_MAX) : points }));
  });
  useEffect(() => {
    read();
  }, []);
  usePoll(() => isBusy || read(), POLL_MS);
  const { newest, points } = readings;
  const times = points.map(({ time }) => time);
  const line = (name, key, color) => ({ name, color, values: points.map((each) => each[key]) });
  return html`
    <${Problem} error=${error} />
    ${newest && html`<${Tiles} metrics=${newest.metrics} />`}
    <div class="charts">
      <${Chart} title="Requests a second" times=${times} format=${(value) => value.toFixed(value < 10 ? 1 : 0)} lines=${[line("answered", "rate", "--accent"), line("failed", "failures", "--bad")]} />
      <${Chart} title="Time to answer" times=${times} format=${milliseconds} lines=${[line("p50", "p50", "--cool"), line("p99", "p99", "--accent")]} />
      <${Chart} title="Under way" times=${times} format=${count} lines=${[line("requests", "underWay", "--accent"), line("in queues", "waiting", "--cool")]} />
      <${Chart} title="Bytes that wait" times=${times} format=${bytes} isBytes least=${1024} lines=${[line("writes", "writes", "--accent"), line("bodies", "bodies", "--cool")]} />
      <${Chart} title="Memory" times=${times} format=${bytes} isBytes least=${1024} lines=${[line("resident", "memory", "--accent")]} />
      <${Chart} title="Processors in use" times=${times} format=${(value) => value.toFixed(2)} least=${0.1} lines=${[line("cores", "cpu", "--accent")]} />
      ${points.some(({ disk }) => disk !== null) && html`<${Chart} title="On disk" times=${times} format=${bytes} isBytes least=${1024} lines=${[line("indexes", "disk", "--accent")]} />`}
    </div>
    ${newest && html`<${Queues} metrics=${newest.metrics} /><${Refusals} metrics=${newest.metrics} /><${ByIndex} metrics=${newest.metrics} /><${ByOperation} metrics=${newest.metrics} />`}
  `;
}

/** @param {{metrics: import("../core/metrics.js").Reading}} props */
function Tiles({ metrics }) {
  const age = sum(metrics, "vicinal_snapshot_age_seconds");
  const tiles = [
    ["indexes", count(sum(metrics, "vicinal_indexes"))],
    ["vectors of open ones", count(sum(metrics, "vicinal_index_vectors"))],
    ["pending", count(sum(metrics, "vicinal_index_pending_vectors"))],
    ["in memtables", count(sum(metrics, "vicinal_index_memtable_vectors"))],
    ["segments", count(sum(metrics, "vicinal_index_segments"))],
    ["free on disk", bytes(sum(metrics, "vicinal_disk_free_bytes"))],
    ["slow queries", count(sum(metrics, "vicinal_slow_queries_total"))],
    ["failed indexes", count(sum(metrics, "vicinal_indexes_failed"))],
    ["open files", count(sum(metrics, "process_open_fds"))],
    ["newest snapshot", age === null ? "–" : `${count(Math.round(age / 60))} min ago`],
  ].filter(([, value]) => value !== "–");
  return html`<div class="tiles">${tiles.map(([label, value]) => html`<div class="tile" key=${label}><b>${value}</b><span class="faint">${label}</span></div>`)}</div>`;
}

/** What waits, and how much of it there may be. @param {{metrics: import("../core/metrics.js").Reading}} props */
function Queues({ metrics }) {
  const rows = [
    ...(metrics.get("vicinal_queue_requests") ?? []).map(({ labels, value }) => ({ name: labels.queue, value, most: sum(metrics, "vicinal_queue_requests_max", labels), show: count })),
    { name: "bytes of writes", value: sum(metrics, "vicinal_write_queue_bytes"), most: sum(metrics, "vicinal_write_queue_bytes_max"), show: bytes },
    { name: "bytes of bodies", value: sum(metrics, "vicinal_body_bytes_in_flight"), most: sum(metrics, "vicinal_body_bytes_in_flight_max"), show: bytes },
  ].filter(({ value }) => value !== null);
  const share = ({ value, most }) => (most ? value / most : 0);
  const columns = [
    { name: "queue", show: ({ name }) => name, order: ({ name }) => name, className: "mono" },
    { name: "now", show: (row) => row.show(row.value), order: (row) => row.value, isNumber: true },
    { name: "at most", show: (row) => row.show(row.most), order: (row) => row.most, isNumber: true },
    { name: "full", show: (row) => html`<span class=${`scored ${share(row) >= 0.9 ? "bad" : ""}`}><${Bar} share=${share(row)} />${Math.round(share(row) * 100)} %</span>`, order: share, isNumber: true },
  ];
  return html`<h2>Queues</h2><${Table} label="Queues" columns=${columns} rows=${rows} rowKey=${({ name }) => name} sort="-full" />`;
}

/** @param {{metrics: import("../core/metrics.js").Reading}} props */
function Refusals({ metrics }) {
  const rows = (metrics.get("vicinal_refusals_total") ?? []).map(({ labels, value }) => ({ cause: labels.cause, value }));
  if (!rows.length) return null;
  const columns = [
    { name: "cause", show: ({ cause }) => cause, order: ({ cause }) => cause, className: "mono" },
    { name: "refused or failed", show: ({ value }) => count(value), order: ({ value }) => value, isNumber: true },
  ];
  return html`<h2>Refusals since the start</h2><${Table} label="Refusals" columns=${columns} rows=${rows} rowKey=${({ cause }) => cause} sort="-refused or failed" />`;
}

/** Names of metrics of an index -> the heads of their columns. */
const OF_INDEX = {
  vicinal_index_vectors: "vectors",
  vicinal_index_pending_vectors: "pending",
  vicinal_index_segments: "segments",
  vicinal_index_memtable_vectors: "in memtable",
  vicinal_index_disk_bytes: "bytes",
};

/** @param {{metrics: import("../core/metrics.js").Reading}} props */
function ByIndex({ metrics }) {
  const names = Object.keys(OF_INDEX).filter((name) => metrics.has(name));
  /** @type {Map<string, Record<string, any>>} */
  const rows = new Map();
  for (const name of names) {
    for (const { labels, value } of metrics.get(name) ?? []) {
      const key = `${labels.account}/${labels.index}`;
      rows.set(key, { key, ...rows.get(key), [name]: (rows.get(key)?.[name] ?? 0) + value });
    }
  }
  const columns = [
    { name: "index", show: ({ key }) => key, order: ({ key }) => key, className: "mono" },
    ...names.map((name) => ({ name: OF_INDEX[name], show: (row) => (name.endsWith("_bytes") ? bytes(row[name]) : count(row[name])), order: (row) => row[name], isNumber: true })),
  ];
  return html`<h2>Open indexes</h2><${Table} label="Open indexes" columns=${columns} rows=${[...rows.values()]} rowKey=${({ key }) => key} />`;
}

/** @param {{metrics: import("../core/metrics.js").Reading}} props */
function ByOperation({ metrics }) {
  const operations = [...new Set((metrics.get(`${DURATIONS}_count`) ?? []).map(({ labels }) => labels.operation))];
  const rows = operations.map((operation) => {
    const times = buckets(metrics, DURATIONS, (labels) => labels.operation === operation);
    const [p50, p99] = [0.5, 0.99].map((share) => quantile(new Map(), times, share));
    const failed = buckets(metrics, DURATIONS, (labels) => labels.operation === operation && labels.status >= "400").get(Infinity) ?? 0;
    return { operation, answered: times.get(Infinity) ?? 0, failed, p50, p99 };
  });
  const time = (value) => (value === null ? "–" : milliseconds(value * 1000));
  const columns = [
    { name: "operation", show: ({ operation }) => operation, order: ({ operation }) => operation, className: "mono" },
    { name: "answered", show: ({ answered }) => count(answered), order: ({ answered }) => answered, isNumber: true },
    { name: "refused or failed", show: ({ failed }) => count(failed), order: ({ failed }) => failed, isNumber: true },
    { name: "p50", show: ({ p50 }) => time(p50), order: ({ p50 }) => p50, isNumber: true },
    { name: "p99", show: ({ p99 }) => time(p99), order: ({ p99 }) => p99, isNumber: true },
  ];
  return html`<h2>Operations since the start</h2><${Table} label="Operations" columns=${columns} rows=${rows} rowKey=${({ operation }) => operation} sort="-answered" />`;
}
