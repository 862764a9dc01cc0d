// The AI SDK with its Workers AI provider, which is given the binding.
import { cosineSimilarity, embed, embedMany } from "ai";
import { createWorkersAI } from "workers-ai-provider";
import { getPlatformProxy } from "wrangler";

const { env, dispose } = await getPlatformProxy({ remoteBindings: false, persist: false });
const model = createWorkersAI({ binding: env.AI }).textEmbedding(process.env.MODEL);

const { embedding } = await embed({ model, value: "I cannot log in to my account" });
const { embeddings } = await embedMany({
  model,
  values: ["How to reset a forgotten password", "Bananas ripen faster beside apples"],
});
console.log(
  JSON.stringify({
    lengths: [embedding, ...embeddings].map((each) => each.length),
    similarities: embeddings.map((each) => cosineSimilarity(embedding, each)),
  }),
);
await dispose();
