/**
 * The server's metrics in Prometheus' text format, read and turned into what is drawn: rates
 * between two readings, and quantiles of histograms.
 */

/** @typedef {{labels: Record<string, string>, value: number}} Sample */
/** @typedef {Map<string, Sample[]>} Reading by the name of the metric */

const LINE = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)/;
const LABEL = /(\w+)="((?:[^"\\]|\\.)*)"/g;

/** @param {string} text @returns {Reading} */
export function parse(text) {
  /** @type {Reading} */
  const reading = new Map();
  for (const line of text.split("\n")) {
    const match = line.startsWith("#") ? null : LINE.exec(line);
    if (!match) continue;
    const [, name, written = "", value] = match;
    /** @type {Record<string, string>} */
    const labels = {};
    for (const [, label, raw] of written.matchAll(LABEL)) labels[label] = raw.replaceAll(/\\(.)/g, (_, sign) => (sign === "n" ? "\n" : sign));
    const samples = reading.get(name);
    const number = value === "+Inf" ? Infinity : Number(value);
    if (samples) samples.push({ labels, value: number });
    else reading.set(name, [{ labels, value: number }]);
  }
  return reading;
}

/**
 * Return the sum of a metric over the samples that have these labels, null where there is none.
 * @param {Reading} reading
 * @param {string} name
 * @param {Record<string, string>} [labels]
 */
export function sum(reading, name, labels = {}) {
  const wanted = Object.entries(labels);
  const samples = (reading.get(name) ?? []).filter((sample) => wanted.every(([label, value]) => sample.labels[label] === value));
  return samples.length ? samples.reduce((total, { value }) => total + value, 0) : null;
}

/**
 * Return the counts of a histogram's buckets by their upper bound, summed over all labels.
 * @param {Reading} reading
 * @param {string} name without `_bucket`
 * @param {(labels: Record<string, string>) => boolean} [isWanted]
 */
export function buckets(reading, name, isWanted = () => true) {
  /** @type {Map<number, number>} */
  const counts = new Map();
  for (const { labels, value } of reading.get(`${name}_bucket`) ?? []) {
    if (!isWanted(labels)) continue;
    const bound = labels.le === "+Inf" ? Infinity : Number(labels.le);
    counts.set(bound, (counts.get(bound) ?? 0) + value);
  }
  return counts;
}

/**
 * Return a quantile of what came between two readings of a histogram, by linear interpolation
 * within a bucket; null when nothing came.
 * @param {Map<number, number>} before
 * @param {Map<number, number>} after
 * @param {number} share from 0 to 1
 */
export function quantile(before, after, share) {
  const bounds = [...after.keys()].sort((a, b) => a - b);
  const counts = bounds.map((bound) => (after.get(bound) ?? 0) - (before.get(bound) ?? 0));
  const total = counts.at(-1) ?? 0;
  if (total <= 0) return null;
  const wanted = share * total;
  const number = counts.findIndex((count) => count >= wanted);
  const low = number === 0 ? 0 : bounds[number - 1];
  if (bounds[number] === Infinity) return low;
  const below = number === 0 ? 0 : counts[number - 1];
  const inside = counts[number] - below;
  return low + (bounds[number] - low) * (inside ? (wanted - below) / inside : 0);
}
