import { perform } from "./perform.js";

export default {
  async fetch(request, env) {
    if (request.method !== "POST") return new Response("ready");
    return Response.json(await perform(env, await request.json()));
  },
};
