import { vicinal } from "vicinal/vitest";

export default vicinal({
  indexes: { "embeddings-index": { dimensions: 384, metric: "cosine" } },
});
