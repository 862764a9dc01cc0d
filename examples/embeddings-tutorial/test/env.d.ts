type Tutorial = import("../src/index").Env;

declare namespace Cloudflare {
  interface Env extends Tutorial {}
  interface GlobalProps {
    mainModule: typeof import("../src/index");
  }
}
