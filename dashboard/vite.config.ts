import react from "@vitejs/plugin-react";
import { defineConfig } from "vitest/config";

// `npm run dev` serves the page alone; everything else is proxied to a running service.
const service = process.env.TRAINYARD_URL ?? "http://127.0.0.1:8642";

export default defineConfig({
  plugins: [react()],
  build: { target: "chrome123", assetsInlineLimit: 0, manifest: true, modulePreload: { polyfill: false } },
  server: { proxy: { "/v1": service, "/docs": service, "/openapi.json": service } },
  test: { environment: "happy-dom", include: ["src/**/*.test.{ts,tsx}"] },
});
