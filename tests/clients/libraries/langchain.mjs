// LangChain's store and embeddings, which are given the bindings.
import { CloudflareVectorizeStore, CloudflareWorkersAIEmbeddings } from "@langchain/cloudflare";
import { Document } from "@langchain/core/documents";
import { getPlatformProxy } from "wrangler";

const { env, dispose } = await getPlatformProxy({ remoteBindings: false, persist: false });
const embeddings = new CloudflareWorkersAIEmbeddings({ binding: env.AI, model: process.env.MODEL });
const store = new CloudflareVectorizeStore(embeddings, { index: env.VECTORIZE });
const until = async (count) => {
  while ((await env.VECTORIZE.describe()).vectorCount !== count) {
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
};
const told = {};

told.ids = await store.addDocuments(
  [
    new Document({ pageContent: "How to reset a forgotten password", metadata: { shelf: 1 } }),
    new Document({ pageContent: "Bananas ripen faster beside apples", metadata: { shelf: 2 } }),
    new Document({ pageContent: "The cat sleeps on the warm roof", metadata: { shelf: 2 } }),
  ],
  { ids: ["a", "b", "c"] },
);
await until(3);
told.found = await store.similaritySearchWithScore("I cannot log in to my account", 2);
told.filtered = await store.similaritySearch("I cannot log in", 3, { shelf: 2 });
await store.delete({ ids: ["a"] });
await until(2);
told.left = (await store.similaritySearch("password", 5)).length;
console.log(JSON.stringify(told));
await dispose();
