// A Worker to run beside yours where a preload hook cannot be used. It has the methods of the
// Vectorize and AI bindings, and your Worker reaches them by service bindings:
//
//     "services": [
//       { "binding": "VECTORIZE", "service": "vicinal", "entrypoint": "VectorizeIndex",
//         "props": { "index": "docs" } },
//       { "binding": "AI", "service": "vicinal", "entrypoint": "WorkersAI" }
//     ]
//
//     npx wrangler dev -c wrangler.local.jsonc -c vicinal/wrangler.jsonc
//
// Differences from the real bindings: `aiGatewayLogId` and `lastRequestId` are missing, and
// the objects are stubs of a service, not instances of the runtime's classes.

import { WorkerEntrypoint } from "cloudflare:workers";

export default {
  fetch: () => new Response("This Worker is reached by service bindings.\n", { status: 404 }),
};

/** `env.VECTORIZE`, for the index that the binding's props name. */
export class VectorizeIndex extends WorkerEntrypoint {
  describe() {
    return this.#send("INDEX_GET", "GET", "/info");
  }

  query(vector, options) {
    return this.#query({ ...options, vector: numbers(vector) });
  }

  queryById(vectorId, options) {
    return this.#query({ ...options, vectorId });
  }

  insert(vectors) {
    return this.#send("VECTOR_INSERT", "POST", "/insert", { vectors: vectors.map(plain) });
  }

  upsert(vectors) {
    return this.#send("VECTOR_UPSERT", "POST", "/upsert", { vectors: vectors.map(plain) });
  }

  getByIds(ids) {
    return this.#send("VECTOR_GET", "POST", "/getByIds", { ids });
  }

  deleteByIds(ids) {
    return this.#send("VECTOR_DELETE", "POST", "/deleteByIds", { ids });
  }

  #query(body) {
    return this.#send("VECTOR_QUERY", "POST", "/query", body);
  }

  async #send(operation, method, path, body) {
    const { index } = this.ctx.props;
    const answer = await send(this.env, method, path, body, { "x-vectorize-index": index ?? "" });
    const result = await answer.json();
    if (answer.status === 200) return result;
    throw new Error(`${operation}_ERROR (code = ${result.code}): ${result.error}`);
  }
}

/** `env.AI`: what the server runs, and what it passes on. */
export class WorkersAI extends WorkerEntrypoint {
  async run(model, inputs, options = {}) {
    const headers = { "cf-consn-model-id": model };
    const answer = await send(this.env, "POST", "/run?version=3", { inputs, options }, headers);
    if (options.returnRawResponse) return answer;
    if (answer.headers.get("content-type") !== "application/json") return answer.body;
    const result = await answer.json();
    if (answer.ok) return result;
    throw new Error(`${result.code}: ${result.error}`);
  }

  async models(parameters = {}) {
    const query = new URLSearchParams(parameters);
    const answer = await send(this.env, "GET", `/ai-api/models/search?${query}`);
    const { error, result } = await answer.json();
    if (answer.ok) return result;
    throw new Error(error);
  }
}

function send(env, method, path, body, headers = {}) {
  return fetch(`${env.VICINAL_URL}${path}`, {
    method,
    headers: {
      authorization: `Bearer ${env.VICINAL_TOKEN}`,
      "x-vectorize-account": env.VICINAL_ACCOUNT,
      "content-type": "application/json",
      ...headers,
    },
    body: body && JSON.stringify(body),
  });
}

/** JSON has no typed arrays. */
function numbers(values) {
  return ArrayBuffer.isView(values) ? Array.from(values) : values;
}

function plain(vector) {
  return { ...vector, values: numbers(vector.values) };
}
