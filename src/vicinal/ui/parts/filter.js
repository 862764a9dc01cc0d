/**
 * The filter builder: a row for each condition, over the properties that have a metadata index.
 *
 * It writes and reads the filter's JSON, which can be written by hand as well; a filter that has more
 * than these rows can show ($or, nested ones) stays JSON.
 */
import { html, useEffect, useState } from "../core/html.js";
import { Choice } from "./basics.js";

/** @typedef {import("../core/indexes.js").Property} Property */
/** @typedef {{property: string, operator: string, value: string}} Condition */

const OF_ALL = ["$eq", "$ne", "$in", "$nin", "$exists"];
/** The operators of a type of property. @type {Record<string, string[]>} */
const OPERATORS = {
  string: [...OF_ALL, "$startsWith", "$contains", "$lt", "$lte", "$gt", "$gte"],
  number: [...OF_ALL, "$lt", "$lte", "$gt", "$gte"],
  boolean: OF_ALL.filter((operator) => operator !== "$in" && operator !== "$nin"),
};
const SIGNS = { $eq: "=", $ne: "≠", $lt: "<", $lte: "≤", $gt: ">", $gte: "≥", $in: "in", $nin: "not in", $exists: "exists", $startsWith: "starts with", $contains: "contains" };
const LISTS = ["$in", "$nin"];

/** @param {string} type @param {string} text */
function scalar(type, text) {
  if (type === "number") return Number(text);
  if (type === "boolean") return text.trim() === "true";
  return text;
}

/**
 * Return the filter of conditions, null for none.
 * @param {Condition[]} conditions
 * @param {Property[]} properties
 * @returns {Record<string, any> | null}
 */
export function build(conditions, properties) {
  /** By property: any name, also one that objects have themselves. @type {Map<string, Record<string, any>>} */
  const filter = new Map();
  for (const { property, operator, value } of conditions) {
    const type = properties.find(({ name }) => name === property)?.type ?? "string";
    const operand = LISTS.includes(operator)
      ? value.split(",").map((part) => scalar(type, part.trim()))
      : operator === "$exists" ? value !== "false" : scalar(type, value);
    filter.set(property, { ...filter.get(property), [operator]: operand });
  }
  return conditions.length ? Object.fromEntries(filter) : null;
}

/**
 * Return the conditions that a filter is made of, null if it has more than these can say.
 * @param {any} filter
 * @returns {Condition[] | null}
 */
export function conditionsOf(filter) {
  if (!filter) return [];
  const conditions = [];
  for (const [property, operand] of Object.entries(filter)) {
    if (property.startsWith("$")) return null;
    const operators = operand !== null && typeof operand === "object" && !Array.isArray(operand) ? operand : { $eq: operand };
    for (const [operator, value] of Object.entries(operators)) {
      if (!Object.hasOwn(SIGNS, operator)) return null;
      conditions.push({ property, operator, value: Array.isArray(value) ? value.join(", ") : String(value) });
    }
  }
  return conditions;
}

/** Read a filter out of the address. @param {string | undefined} text */
export function parseFilter(text) {
  if (!text) return null;
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/**
 * @param {{text: string | undefined, properties: Property[], onChange: (text: string) => void}} props `text` is the filter as JSON
 */
export function FilterBuilder({ text = "", properties, onChange }) {
  const [draft, setDraft] = useState(text);
  const [isRaw, setRaw] = useState(conditionsOf(parseFilter(text)) === null);
  useEffect(() => setDraft(text), [text]);
  const conditions = conditionsOf(parseFilter(draft)) ?? [];
  const change = (next, isDone = true) => {
    const built = build(next, properties);
    const written = built ? JSON.stringify(built) : "";
    setDraft(written);
    if (isDone) onChange(written);
  };
  if (isRaw) return html`<${RawFilter} draft=${draft} onDraft=${setDraft} onChange=${onChange} onBuild=${() => setRaw(false)} />`;
  const first = properties[0];
  return html`
    <div class="filter" role="group" aria-label="Filter">
      ${conditions.map((condition, number) => html`
        <${ConditionRow} key=${number} condition=${condition} properties=${properties}
          onChange=${(next, isDone) => change(conditions.map((old, other) => (other === number ? next : old)), isDone)}
          onRemove=${() => change(conditions.filter((_, other) => other !== number))} />
      `)}
      <button type="button" class="quiet" disabled=${!first} title=${first ? "" : "No property has a metadata index"}
        onClick=${() => change([...conditions, unused(conditions, properties)], false)}>+ filter</button>
      <button type="button" class="quiet" onClick=${() => setRaw(true)}>JSON</button>
    </div>
  `;
}

/** @param {Condition[]} conditions @param {Property[]} properties @returns {Condition} */
function unused(conditions, properties) {
  const taken = new Set(conditions.map(({ property, operator }) => property + operator));
  for (const { name, type } of properties) {
    for (const operator of OPERATORS[type]) {
      if (!taken.has(name + operator)) return { property: name, operator, value: type === "boolean" ? "true" : type === "number" ? "0" : "" };
    }
  }
  return { property: properties[0].name, operator: "$eq", value: "" };
}

/** @param {{condition: Condition, properties: Property[], onChange: (condition: Condition, isDone: boolean) => void, onRemove: () => void}} props */
function ConditionRow({ condition, properties, onChange, onRemove }) {
  const { property, operator, value } = condition;
  const known = properties.find(({ name }) => name === property);
  const type = known?.type ?? "string";
  const names = known ? properties.map(({ name }) => name) : [property, ...properties.map(({ name }) => name)];
  const isChoice = type === "boolean" || operator === "$exists";
  return html`
    <span class="condition">
      <${Choice} label="Property" value=${property} options=${names} onChange=${(next) => onChange({ property: next, operator: "$eq", value: "" }, false)} />
      <${Choice} label="Operator" value=${operator} options=${OPERATORS[type].map((each) => [each, SIGNS[each]])} onChange=${(next) => onChange({ property, operator: next, value: next === "$exists" ? "true" : value }, true)} />
      ${isChoice
        ? html`<${Choice} label="Value" value=${value} options=${["true", "false"]} onChange=${(next) => onChange({ property, operator, value: next }, true)} />`
        : html`<input aria-label="Value" size="12" type=${type === "number" && !LISTS.includes(operator) ? "number" : "text"} step="any" value=${value} placeholder=${LISTS.includes(operator) ? "a, b, c" : "value"}
            onChange=${(event) => onChange({ property, operator, value: event.currentTarget.value }, true)} />`}
      <button type="button" class="quiet" aria-label=${`Remove the condition on ${property}`} onClick=${onRemove}>✕</button>
    </span>
  `;
}

/** @param {{draft: string, onDraft: (text: string) => void, onChange: (text: string) => void, onBuild: () => void}} props */
function RawFilter({ draft, onDraft, onChange, onBuild }) {
  const isBroken = draft !== "" && parseFilter(draft) === null;
  const mayBuild = !isBroken && conditionsOf(parseFilter(draft)) !== null;
  return html`
    <div class="filter" role="group" aria-label="Filter">
      <input aria-label="Filter as JSON" class="grow mono" value=${draft} aria-invalid=${isBroken} placeholder='{"year": {"$gte": 1980}}' spellcheck=${false}
        onInput=${(event) => onDraft(event.currentTarget.value)} onChange=${(event) => (event.currentTarget.value === "" || parseFilter(event.currentTarget.value)) && onChange(event.currentTarget.value)} />
      <button type="button" class="quiet" disabled=${!mayBuild} onClick=${onBuild}>builder</button>
    </div>
  `;
}
