import type { VicinalServer } from "./testing.mjs";

/** An index that a test run begins with. */
export interface IndexOptions {
  dimensions?: number;
  metric?: "cosine" | "euclidean" | "dot-product";
  /** Instead of dimensions and metric. */
  preset?: string;
  /** The properties that filters may name, and their types. */
  metadataIndexes?: Record<string, "string" | "number" | "boolean">;
}

export interface VicinalOptions {
  /** The indexes to create, by name. */
  indexes?: Record<string, IndexOptions>;
  /** How Vicinal is started, `["vicinal"]` if not given; `["python3", "-m", "vicinal"]` does as well. */
  command?: [string, ...string[]];
}

/**
 * Return a global set-up for Vitest that starts a server, creates indexes in an account of
 * this run's own and provides `vicinal` to the tests. With `VICINAL_URL` in the environment it
 * uses that server and starts none.
 */
export function vicinal(
  options?: VicinalOptions,
): (project: { provide(key: "vicinal", value: VicinalServer): void }) => Promise<() => Promise<void>>;

declare module "vitest" {
  interface ProvidedContext {
    vicinal: VicinalServer;
  }
}
