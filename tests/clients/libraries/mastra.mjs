// Mastra's vector store, on the older SDK that it pins.
import { CloudflareVector } from "@mastra/vectorize";

const store = new CloudflareVector({
  accountId: process.env.CLOUDFLARE_ACCOUNT_ID,
  apiToken: process.env.CLOUDFLARE_API_TOKEN,
});
const indexName = "memory";
const until = async (holds) => {
  while (!(await holds())) await new Promise((resolve) => setTimeout(resolve, 20));
};
const told = {};

await store.createIndex({ indexName, dimension: 3, metric: "cosine" });
await store.createIndex({ indexName, dimension: 3, metric: "cosine" }); // one that is there is used
await store.createMetadataIndex(indexName, "kind", "string");
await until(async () => (await store.listMetadataIndexes(indexName))?.length === 1);
told.ids = await store.upsert({
  indexName,
  vectors: [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
  metadata: [{ kind: "a" }, { kind: "b" }, { kind: "b" }],
  ids: ["x", "y", "z"],
});
await until(async () => (await store.describeIndex({ indexName })).count === 3);
told.stats = await store.describeIndex({ indexName });
told.found = await store.query({ indexName, queryVector: [1, 0.1, 0], topK: 2, includeVector: true });
told.filtered = await store.query({
  indexName,
  queryVector: [1, 0.1, 0],
  topK: 3,
  filter: { kind: { $in: ["b"] } },
});
await store.upsert({ indexName, vectors: [[0, 0, 5]], metadata: [{ kind: "c" }], ids: ["x"] });
await until(async () => {
  const [first] = await store.query({ indexName, queryVector: [0, 0, 1], topK: 1 });
  return first.id === "x";
});
await store.deleteVector({ indexName, id: "y" });
await until(async () => (await store.describeIndex({ indexName })).count === 2);
told.indexes = await store.listIndexes();
await store.deleteIndex({ indexName });
told.left = await store.listIndexes();
console.log(JSON.stringify(told));
