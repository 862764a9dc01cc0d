/**
 * Operations: what the server does now, its slow queries, the parts of indexes, snapshots, tokens, and
 * imports.
 *
 * A token for one account does not see what is of all accounts; each part says so where it stands.
 */
import { html } from "../core/html.js";
import { setParams, useRoute } from "../core/route.js";
import { session } from "../core/session.js";
import { Empty } from "../parts/basics.js";
import { Importing } from "./importing.js";
import { Live } from "./live.js";
import { SlowQueries } from "./slow.js";
import { SnapshotsPart } from "./snapshots.js";
import { StoragePart } from "./storage.js";
import { TokensPart } from "./tokens.js";

/** Name in the address -> its label and what it shows; whether it is of all accounts. */
const PARTS = {
  live: { label: "Live", part: Live, isOfAll: true },
  slow: { label: "Slow queries", part: SlowQueries, isOfAll: true },
  storage: { label: "Storage", part: StoragePart, isOfAll: false },
  snapshots: { label: "Snapshots", part: SnapshotsPart, isOfAll: true },
  tokens: { label: "Tokens", part: TokensPart, isOfAll: true },
  import: { label: "Import", part: Importing, isOfAll: false },
};

export function OperationsPage() {
  const { params } = useRoute();
  const name = Object.hasOwn(PARTS, params.show ?? "") ? params.show : "live";
  const { part: Part, isOfAll } = PARTS[name];
  return html`
    <section class="page">
      <header class="bar-head">
        <h1>Operations</h1>
        <div class="tabs" role="group" aria-label="Part">
          ${Object.entries(PARTS).map(([key, { label }]) => html`<button key=${key} class="tab" aria-pressed=${key === name} onClick=${() => setParams({ show: key })}>${label}</button>`)}
        </div>
      </header>
      ${isOfAll && !session.isOfAll
        ? html`<${Empty}>This is about all accounts. Your token is for the account ${session.caller?.account}.<//>`
        : html`<${Part} />`}
    </section>
  `;
}
