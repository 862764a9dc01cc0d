// Calls the methods of bindings that a test names, one after the other.
//
// A call is {binding, method, args}, its answer {value} or {error}. JSON has no typed arrays,
// so {"$float32": [..]} stands for one.

export async function perform(env, calls) {
  const answers = [];
  for (const { binding, method, args } of calls) {
    try {
      if (env[binding] === undefined) throw new Error(`there is no binding ${binding}`);
      answers.push({ value: await plain(await env[binding][method](...args.map(revived))) });
    } catch (error) {
      answers.push({ error: error.message });
    }
  }
  return answers;
}

function revived(value) {
  if (Array.isArray(value)) return value.map(revived);
  if (value === null || typeof value !== "object") return value;
  if (value.$float32) return new Float32Array(value.$float32);
  return Object.fromEntries(Object.entries(value).map(([name, each]) => [name, revived(each)]));
}

async function plain(value) {
  if (value instanceof ReadableStream) return { stream: await new Response(value).text() };
  // A proxy for Node has a Response class of its own.
  if (typeof value?.json === "function") return { status: value.status, json: await value.json() };
  return value;
}
