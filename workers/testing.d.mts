/** The server of a test run. */
export interface VicinalServer {
  url: string;
  token: string;
  /** An account that is this run's own. */
  account: string;
  /** The names of its indexes. */
  indexes: string[];
}

/** Delete all vectors of all indexes of a run, in milliseconds; metadata indexes stay. */
export function reset(server: VicinalServer): Promise<void>;

/**
 * Wait until queries see a write.
 *
 * @param index A Vectorize binding.
 * @param written What `insert`, `upsert` or `deleteByIds` answered.
 * @throws {Error} it is not visible in time.
 */
export function settled(
  index: { describe(): Promise<{ processedUpToMutation: unknown }> },
  written: { mutationId: string },
  timeoutMs?: number,
): Promise<void>;
