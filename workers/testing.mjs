// What tests need that run in the Workers runtime: an empty start, and writes that are visible.

const PAGE = 1_000;
const DELETED_AT_ONCE = 100;
const POLL_MS = 2;

/** Delete all vectors of all indexes of a run; metadata indexes stay. */
export async function reset(server) {
  await Promise.all(server.indexes.map((name) => emptied(server, name)));
}

async function emptied(server, name) {
  for (;;) {
    const { vectors } = await ask(server, `/${name}/list?count=${PAGE}`);
    const ids = vectors.map(({ id }) => id);
    for (let start = 0; start < ids.length; start += DELETED_AT_ONCE) {
      await ask(server, `/${name}/delete_by_ids`, { ids: ids.slice(start, start + DELETED_AT_ONCE) });
    }
    if (ids.length < PAGE) return;
  }
}

async function ask({ url, token, account }, path, body) {
  const answer = await fetch(`${url}/client/v4/accounts/${account}/vectorize/v2/indexes${path}`, {
    method: body === undefined ? "GET" : "POST",
    // The answer to a write comes when queries see it.
    headers: { authorization: `Bearer ${token}`, prefer: "wait=10" },
    body: body && JSON.stringify(body),
  });
  const { errors, result } = await answer.json();
  if (answer.ok) return result;
  throw new Error(errors.map(({ code, message }) => `${message} [code: ${code}]`).join("; "));
}

/** Wait until queries see a write: the answer of `insert`, `upsert` or `deleteByIds`. */
export async function settled(index, { mutationId }, timeoutMs = 10_000) {
  const end = Date.now() + timeoutMs;
  for (;;) {
    const { processedUpToMutation } = await index.describe();
    if (processedUpToMutation === mutationId) return;
    if (Date.now() > end) throw new Error(`mutation ${mutationId} is not visible after ${timeoutMs} ms`);
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}
