// The official SDK: every operation, every kind of body that it lets through.
import Cloudflare, { toFile } from "cloudflare";
import { Readable } from "node:stream";

const account_id = process.env.CLOUDFLARE_ACCOUNT_ID;
const model = process.env.MODEL;
const client = new Cloudflare({ maxRetries: 0 });
const { indexes } = client.vectorize;
const told = {};

told.created = await indexes.create({
  account_id,
  name: "docs",
  config: { dimensions: 3, metric: "euclidean" },
});
await indexes.metadataIndex.create("docs", { account_id, propertyName: "n", indexType: "number" });

const settled = async ({ mutationId }) => {
  for (;;) {
    const info = await indexes.info("docs", { account_id });
    if (info.processedUpToMutation === mutationId) return info;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
};
const line = (id, values, metadata) => JSON.stringify({ id, values, metadata });
const bodies = {
  string: `${line("string", [1, 0, 0], { n: 1 })}\n${line("other", [0, 0, 9])}`,
  buffer: Buffer.from(line("buffer", [2, 0, 0], { n: 2 })),
  stream: Readable.from([Buffer.from(line("stream", [3, 0, 0]))]),
  file: await toFile(Buffer.from(line("file", [4, 0, 0])), "vectors.ndjson"),
  blob: new Blob([line("blob", [5, 0, 0])]),
};
for (const body of Object.values(bodies)) {
  await settled(await indexes.upsert("docs", { account_id, body }));
}
await settled(await indexes.insert("docs", { account_id, body: line("string", [9, 9, 9]) }));

told.count = (await indexes.info("docs", { account_id })).vectorCount;
told.found = await indexes.query("docs", {
  account_id,
  vector: [0, 0, 0],
  topK: 2,
  returnMetadata: "all",
});
told.filtered = await indexes.query("docs", {
  account_id,
  vector: [0, 0, 0],
  filter: { n: { $gte: 2 } },
});
told.got = await indexes.getByIDs("docs", { account_id, ids: ["string", "none"] });
told.listed = await indexes.listVectors("docs", { account_id, count: 2 });
await settled(await indexes.deleteByIDs("docs", { account_id, ids: ["file", "blob"] }));
told.left = (await indexes.info("docs", { account_id })).vectorCount;
told.embedded = await client.ai.run(model, { account_id, text: ["one", "two"] });

const refused = async (call) => {
  try {
    await call();
  } catch (error) {
    return [error.constructor.name, error.status, error.errors?.[0]?.code ?? null];
  }
};
told.refused = [
  await refused(() => indexes.get("none", { account_id })),
  await refused(() => indexes.create({ account_id, name: "docs", config: { dimensions: 3, metric: "cosine" } })),
  await refused(() => indexes.upsert("docs", { account_id, body: line("x", [1]) })),
  await refused(() => new Cloudflare({ apiToken: "wrong" }).vectorize.indexes.get("docs", { account_id })),
];
told.names = [];
for await (const index of indexes.list({ account_id })) told.names.push(index.name);
await indexes.delete("docs", { account_id });
console.log(JSON.stringify(told));
