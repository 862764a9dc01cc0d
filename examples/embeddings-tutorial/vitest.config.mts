import "vicinal/hook"; // before Miniflare is loaded
import { cloudflareTest } from "@cloudflare/vitest-pool-workers";
import { defineConfig } from "vitest/config";

export default defineConfig({
  plugins: [
    // Bindings that are remote only would otherwise want a session with Cloudflare.
    cloudflareTest({ remoteBindings: false, wrangler: { configPath: "./wrangler.jsonc" } }),
  ],
  test: { globalSetup: ["./test/setup.mts"] },
});
