/**
 * Numbers, sizes, times and metadata as people read them.
 */

const whole = new Intl.NumberFormat("en");
const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];

/** @param {number | null | undefined} value */
export const count = (value) => (value === null || value === undefined ? "–" : whole.format(value));

/**
 * How many there are of something: `1 vector`, `2 vectors`.
 * @param {number | null | undefined} value
 * @param {string} one what one of them is called
 * @param {string} [more] what several are called
 */
export const counted = (value, one, more = `${one}s`) => `${count(value)} ${value === 1 ? one : more}`;

/** @param {number | null | undefined} value of bytes */
export function bytes(value) {
  if (value === null || value === undefined) return "–";
  let unit = 0;
  while (value >= 1024 && unit < UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit && value < 10 ? value.toFixed(1) : Math.round(value)} ${UNITS[unit]}`;
}

/** @param {number} value of milliseconds */
export function milliseconds(value) {
  if (value >= 1000) return `${(value / 1000).toFixed(2)} s`;
  return value >= 1 ? `${value.toFixed(1)} ms` : `${Math.round(value * 1000)} µs`;
}

/** @param {string | number | null | undefined} moment */
export function when(moment) {
  if (!moment) return "–";
  return new Date(moment).toLocaleString("sv-SE");
}

/** @param {number} value */
export function score(value) {
  const text = value.toFixed(5);
  return Math.abs(value) >= 1000 ? value.toPrecision(7) : text;
}

/** Names that hold a row's title, the likeliest first. */
const TITLES = ["title", "name", "label", "text", "heading", "url", "path", "content"];

/**
 * Return what a row is called: a member of its metadata, or its id.
 * @param {string} id
 * @param {Record<string, unknown> | undefined} metadata
 */
export function title(id, metadata) {
  for (const name of TITLES) {
    const value = metadata?.[name];
    if (typeof value === "string" && value) return value;
  }
  return id;
}

/**
 * Return a value of metadata in one line.
 * @param {unknown} value
 */
export function cell(value) {
  if (value === undefined) return "";
  return typeof value === "string" ? value : JSON.stringify(value);
}

/**
 * Return the value at a path like `place.continent`.
 * @param {Record<string, unknown> | undefined} metadata
 * @param {string} path
 * @returns {unknown}
 */
export function at(metadata, path) {
  /** @type {any} */
  let value = metadata;
  for (const name of path.split(".")) {
    const isInside = value !== null && typeof value === "object" && !Array.isArray(value) && Object.hasOwn(value, name);
    value = isInside ? value[name] : undefined;
  }
  return value;
}

/**
 * Return the paths of the values in documents, the most frequent first.
 * @param {(Record<string, unknown> | undefined)[]} documents
 */
export function paths(documents) {
  /** @type {Map<string, number>} */
  const counts = new Map();
  const visit = (value, path) => {
    if (value && typeof value === "object" && !Array.isArray(value)) {
      for (const [name, inner] of Object.entries(value)) visit(inner, path ? `${path}.${name}` : name);
    } else if (path) counts.set(path, (counts.get(path) ?? 0) + 1);
  };
  for (const document of documents) visit(document, "");
  return [...counts].sort((a, b) => b[1] - a[1]).map(([path]) => path);
}

/**
 * Return the object that a text is as JSON, null if it is none.
 * @param {string} text
 * @returns {Record<string, unknown> | null}
 */
export function parsedObject(text) {
  try {
    const document = JSON.parse(text);
    return document && typeof document === "object" && !Array.isArray(document) ? document : null;
  } catch {
    return null;
  }
}
