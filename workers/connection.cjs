"use strict";
// Where the server is, and the URL that tells Miniflare so.
//
// VICINAL_URL, VICINAL_TOKEN and VICINAL_ACCOUNT say it; the same names that begin with
// VECTORIZE_ are read after them. Nothing here opens a connection.

const DEFAULT_URL = "http://127.0.0.1:8790";
const DEFAULT_ACCOUNT = "local";
const ANY_TOKEN = "local"; // on loopback any token will do until one has been created

/** Return the server that the environment names, or the default one. */
function target(environment = process.env) {
  const read = (name) => environment[`VICINAL_${name}`] || environment[`VECTORIZE_${name}`];
  const url = read("URL") || DEFAULT_URL;
  if (!URL.canParse(url) || !/^https?:$/.test(new URL(url).protocol)) {
    throw new Error(`VICINAL_URL is ${JSON.stringify(url)}, which is not a URL like ${DEFAULT_URL}`);
  }
  return {
    // SDKs are given the URL with this path; both spellings will do.
    url: url.replace(/\/+$/, "").replace(/\/client\/v4$/, ""),
    // A server's VICINAL_TOKEN may list several; any of them will do here.
    token: (read("TOKEN") || ANY_TOKEN).split(",")[0].trim(),
    account: read("ACCOUNT") || DEFAULT_ACCOUNT,
  };
}

/**
 * Return the URL that Miniflare takes as `remoteProxyConnectionString`.
 *
 * @param indexes The index of each Vectorize binding, by the binding's name. Bindings for
 *   AI need no entry.
 */
function connectionString(indexes = {}, { url, token, account } = target()) {
  const connection = new URL(`${url}/miniflare/${encodeURIComponent(account)}`);
  connection.searchParams.set("token", token);
  for (const [binding, index] of Object.entries(indexes)) {
    connection.searchParams.set(`index.${binding}`, index);
  }
  return connection;
}

module.exports = { target, connectionString };
