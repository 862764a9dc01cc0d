/**
 * What pages ask of an index: its settings, its metadata indexes and what they cover, the models
 * that fit it.
 */
import { accountPath, ask, indexesPath, indexPath } from "./api.js";
import { useLoaded } from "./hooks.js";
import { account } from "./route.js";

/**
 * @typedef {object} Property a property that filters may name
 * @property {string} name
 * @property {"string" | "number" | "boolean"} type
 * @property {number} covered vectors that its metadata index knows
 * @property {number} count vectors of the index
 */

/**
 * @typedef {object} IndexState
 * @property {string} name
 * @property {{dimensions: number, metric: string, preset?: string, model?: string, effort?: string}} config
 * @property {string | undefined} description
 * @property {string} created
 * @property {number} vectorCount
 * @property {Property[]} properties that filters may name
 * @property {string[]} texts properties whose words can be searched for
 */

/**
 * @param {string} name
 * @param {AbortSignal} [signal]
 * @returns {Promise<IndexState>}
 */
export async function describe(name, signal) {
  const path = indexPath(account(), name);
  const [index, info, { metadataIndexes }] = await Promise.all([
    ask(path, { signal }),
    ask(`${path}/info`, { signal }),
    ask(`${path}/metadata_index/list`, { signal }),
  ]);
  const partial = new Map((info.partialIndexes ?? []).map((each) => [each.propertyName, each.coveredCount]));
  return {
    name: index.name,
    config: index.config,
    description: index.description,
    created: index.created_on,
    vectorCount: info.vectorCount,
    texts: metadataIndexes.filter(({ indexType }) => indexType === "text").map(({ propertyName }) => propertyName),
    properties: metadataIndexes.filter(({ indexType }) => indexType !== "text").map(({ propertyName, indexType }) => ({
      name: propertyName,
      type: indexType,
      covered: partial.get(propertyName) ?? info.vectorCount,
      count: info.vectorCount,
    })),
  };
}

/** An index that a page is about. @param {string} name */
export const useIndex = (name) => useLoaded((signal) => describe(name, signal), [account(), name]);

/** The names of all indexes of the account. */
export const useNames = () =>
  useLoaded(async (signal) => {
    const indexes = await ask(indexesPath(account()), { signal });
    return /** @type {string[]} */ (indexes.map((index) => index.name));
  }, [account()]);

const PRESETS = {
  "@cf/baai/bge-small-en-v1.5": 384,
  "@cf/baai/bge-base-en-v1.5": 768,
  "@cf/baai/bge-large-en-v1.5": 1024,
};

/**
 * Return the models whose vectors an index can hold, the likeliest first.
 * @param {IndexState["config"]} config
 * @param {AbortSignal} [signal]
 * @returns {Promise<string[]>}
 */
export async function models(config, signal) {
  const listed = await ask(`${accountPath(account())}/ai/models/search?task=Text%20Embeddings&per_page=1000`, { signal });
  const fitting = listed
    .filter(({ name, properties }) => {
      const said = properties?.find((property) => property.property_id === "output_dimensions")?.value;
      const dimensions = said ? Number(said) : PRESETS[name];
      return !dimensions || dimensions === config.dimensions;
    })
    .map(({ name }) => name);
  const own = config.model ?? config.preset;
  return own ? [own, ...fitting.filter((name) => name !== own)] : fitting;
}
