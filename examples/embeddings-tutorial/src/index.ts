export interface Env {
  VECTORIZE: Vectorize;
  AI: Ai;
  MODEL: "@cf/baai/bge-base-en-v1.5"; // the type of any text-embedding model will do
}

interface Embeddings {
  shape: number[];
  data: number[][];
}

const STORIES = [
  "This is a story about an orange cloud",
  "This is a story about a llama",
  "This is a story about a hugging emoji",
];

export default {
  async fetch(request, env): Promise<Response> {
    const { pathname } = new URL(request.url);

    if (pathname === "/insert") {
      // Once, or whenever the stories change: embed them and store the vectors.
      const embeddings = (await env.AI.run(env.MODEL, { text: STORIES })) as Embeddings;
      const vectors: VectorizeVector[] = embeddings.data.map((values, position) => ({
        id: `${position + 1}`,
        values,
      }));
      return Response.json(await env.VECTORIZE.upsert(vectors));
    }

    if (pathname === "/") {
      const embeddings = (await env.AI.run(env.MODEL, { text: ["orange cloud"] })) as Embeddings;
      // One text was asked about, so its vector is the first; `embeddings.data` itself is a
      // list of vectors and would be refused.
      const matches = await env.VECTORIZE.query(embeddings.data[0], { topK: 1 });
      return Response.json({ matches });
    }

    return new Response("not found", { status: 404 });
  },
} satisfies ExportedHandler<Env>;
