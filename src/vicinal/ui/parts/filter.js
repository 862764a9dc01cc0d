/**
 * The filter builder: a row for each condition, over the properties that have a metadata index.
 *
 * It writes and reads the filter's JSON, which can be written by hand as well; a filter that has more
 * than these rows can show ($or, nested ones) stays JSON.
 */
import { useDraft, useEdited } from "../core/hooks.js";
import { html, useEffect, useState } from "../core/html.js";
import { Choice, TextInput } from "./basics.js";

/** @typedef {import("../core/indexes.js").Property} Property */
/**
 * @typedef {object} Condition
 * @property {string} property
 * @property {string} operator
 * @property {string} value empty: not set yet, so that it filters nothing
 */

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
 * Return what the value of a condition stands for, undefined where that is nothing that can be asked for.
 * @param {Condition} condition
 * @param {string} type of its property
 */
function operandOf({ operator, value }, type) {
  if (operator === "$exists") return value ? value !== "false" : undefined;
  const texts = (LISTS.includes(operator) ? value.split(",").map((part) => part.trim()) : [value]).filter(Boolean);
  const scalars = texts.map((text) => scalar(type, text));
  if (!scalars.length || scalars.some((each) => typeof each === "number" && !Number.isFinite(each))) return undefined;
  return LISTS.includes(operator) ? scalars : scalars[0];
}

/** @param {Property[]} properties @param {string} property */
const typeOf = (properties, property) => properties.find(({ name }) => name === property)?.type ?? "string";

/**
 * Return the filter of the conditions that are set, null for none.
 * @param {Condition[]} conditions
 * @param {Property[]} properties
 * @returns {Record<string, any> | null}
 */
export function build(conditions, properties) {
  /** By property: any name, also one that objects have themselves. @type {Map<string, Record<string, any>>} */
  const filter = new Map();
  for (const condition of conditions) {
    const { property, operator } = condition;
    const operand = operandOf(condition, typeOf(properties, property));
    if (operand !== undefined) filter.set(property, { ...filter.get(property), [operator]: operand });
  }
  return filter.size ? Object.fromEntries(filter) : null;
}

/**
 * Tell whether the text of a condition says this operand, all of it.
 * @param {string} operator
 * @param {unknown} operand
 */
function isSaid(operator, operand) {
  const isScalar = (value) => value !== "" && ["string", "number", "boolean"].includes(typeof value);
  if (!LISTS.includes(operator)) return isScalar(operand);
  return Array.isArray(operand) && operand.length > 0 && operand.every((value) => isScalar(value) && String(value) === String(value).trim() && !String(value).includes(","));
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
      if (!Object.hasOwn(SIGNS, operator) || !isSaid(operator, value)) return null;
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
  const [draft, setDraft] = useDraft(text);
  const [wantsRaw, setRaw] = useState(false);
  const [said, setSaid] = useEdited(draft, (written) => conditionsOf(parseFilter(written)));
  const isRaw = wantsRaw || said === null;
  useEffect(() => {
    if (said === null) setRaw(true); // also while it is written on, until the builder is wanted
  }, [said === null]);
  const conditions = said ?? [];
  const change = (next) => {
    const built = build(next, properties);
    const written = built ? JSON.stringify(built) : "";
    setSaid(next, written);
    setDraft(written);
    if (written !== text) onChange(written);
  };
  if (isRaw) return html`<${RawFilter} draft=${draft} onDraft=${setDraft} onChange=${onChange} onBuild=${() => setRaw(false)} />`;
  const first = properties[0];
  return html`
    <div class="filter" role="group" aria-label="Filter">
      ${conditions.map((condition, number) => html`
        <${ConditionRow} key=${number} condition=${condition} properties=${properties} others=${conditions.filter((_, other) => other !== number)}
          onChange=${(next) => change(conditions.map((old, other) => (other === number ? next : old)))}
          onRemove=${() => change(conditions.filter((_, other) => other !== number))} />
      `)}
      <button type="button" class="quiet" disabled=${!first} title=${first ? "" : "No property has a metadata index"} onClick=${() => change([...conditions, unused(conditions, properties)])}>+ filter</button>
      <button type="button" class="quiet" onClick=${() => setRaw(true)}>JSON</button>
    </div>
  `;
}

/**
 * Return the operators of a property that no other condition on it has: a filter has each once.
 * @param {string} type
 * @param {string} property
 * @param {Condition[]} others
 */
const free = (type, property, others) =>
  OPERATORS[type].filter((operator) => !others.some((other) => other.property === property && other.operator === operator));

/** A first condition on a property. @param {{name: string, type: string}} property @param {string} operator @returns {Condition} */
const condition = ({ name, type }, operator) => ({ property: name, operator, value: isChoice(type, operator) ? "true" : "" });

/** Whether a value is chosen out of two. @param {string} type @param {string} operator */
const isChoice = (type, operator) => type === "boolean" || operator === "$exists";

/** @param {Condition[]} conditions @param {Property[]} properties @returns {Condition} */
function unused(conditions, properties) {
  for (const property of properties) {
    const [operator] = free(property.type, property.name, conditions);
    if (operator) return condition(property, operator);
  }
  return condition(properties[0], "$eq");
}

/** @param {{condition: Condition, properties: Property[], others: Condition[], onChange: (condition: Condition) => void, onRemove: () => void}} props */
function ConditionRow({ condition: { property, operator, value }, properties, others, onChange, onRemove }) {
  const known = properties.find(({ name }) => name === property);
  const type = typeOf(properties, property);
  const names = known ? properties.map(({ name }) => name) : [property, ...properties.map(({ name }) => name)];
  const move = (next) => {
    const to = /** @type {Property} */ (properties.find(({ name }) => name === next));
    onChange(condition(to, free(to.type, next, others)[0] ?? "$eq"));
  };
  const operate = (next) => {
    const isSame = isChoice(type, next) === isChoice(type, operator);
    onChange(isSame ? { property, operator: next, value } : condition({ name: property, type }, next));
  };
  const isWrong = value !== "" && operandOf({ property, operator, value }, type) === undefined;
  return html`
    <span class="condition">
      <${Choice} label="Property" value=${property} options=${names} onChange=${move} />
      <${Choice} label="Operator" value=${operator} options=${free(type, property, others).map((each) => [each, SIGNS[each]])} onChange=${operate} />
      ${isChoice(type, operator)
        ? html`<${Choice} label="Value" value=${value} options=${["true", "false"]} onChange=${(next) => onChange({ property, operator, value: next })} />`
        : html`<${TextInput} aria-label="Value" size="12" type=${type === "number" && !LISTS.includes(operator) ? "number" : "text"} step="any" value=${value} placeholder=${LISTS.includes(operator) ? "a, b, c" : "value"} aria-invalid=${isWrong}
            onChange=${(next) => onChange({ property, operator, value: next })} />`}
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
