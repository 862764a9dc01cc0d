import { env, exports } from "cloudflare:workers";
import { beforeEach, describe, expect, inject, it } from "vitest";
import { reset, settled } from "vicinal/testing";

const ask = async (path: string) => (await exports.default.fetch(`https://example.com${path}`)).json<any>();

describe("the tutorial's Worker", () => {
  beforeEach(() => reset(inject("vicinal")));

  it("finds nothing before stories are inserted", async () => {
    expect(await ask("/")).toEqual({ matches: { count: 0, matches: [] } });
  });

  it("answers \"orange cloud\" with the story about an orange cloud", async () => {
    await settled(env.VECTORIZE, await ask("/insert"));

    const { matches } = await ask("/");

    expect(matches.count).toBe(1);
    expect(matches.matches[0].id).toBe("1");
    expect(matches.matches[0].score).toBeGreaterThan(0.5);
  });

  it("stores three stories, however often they are inserted", async () => {
    await settled(env.VECTORIZE, await ask("/insert"));
    await settled(env.VECTORIZE, await ask("/insert"));

    expect((await env.VECTORIZE.describe()).vectorCount).toBe(3);
  });

  it("refuses a list of vectors where one vector is meant", async () => {
    const { data } = (await env.AI.run(env.MODEL, { text: ["orange cloud"] })) as { data: number[][] };

    await expect(env.VECTORIZE.query(data as any)).rejects.toThrow(
      "VECTOR_QUERY_ERROR (code = 40006): invalid query vector, expected 384 dimensions, and got 0 dimensions",
    );
  });
});
