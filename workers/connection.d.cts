/** A Vicinal server, and whom to be there. */
export interface Target {
  /** Without `/client/v4`. */
  url: string;
  token: string;
  account: string;
}

/**
 * Return the server that `VICINAL_URL`, `VICINAL_TOKEN` and `VICINAL_ACCOUNT` name, or the one
 * at `http://127.0.0.1:8790`.
 *
 * @throws {Error} `VICINAL_URL` is not a URL.
 */
export function target(environment?: Record<string, string | undefined>): Target;

/**
 * Return the URL that Miniflare takes as `remoteProxyConnectionString`.
 *
 * @param indexes The index of each Vectorize binding, by the binding's name. Bindings for AI
 *   need no entry.
 */
export function connectionString(indexes?: Record<string, string>, target?: Target): URL;
