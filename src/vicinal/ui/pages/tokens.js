/**
 * The tokens of the server: listed without their secrets, created, revoked.
 */
import { html, useState } from "../core/html.js";
import { ask } from "../core/api.js";
import { when } from "../core/format.js";
import { useAction, useLoaded } from "../core/hooks.js";
import { session } from "../core/session.js";
import { Choice, Code, Copy, Dialog, Empty, Field, Problem, TypedConfirmation } from "../parts/basics.js";
import { Table } from "../parts/table.js";

const PATH = "client/v4/vicinal/tokens";

/** @typedef {{id: string, name: string, permission: string, account: string | null, createdOn: string}} Token */

export function TokensPart() {
  const { data, error, reload } = useLoaded(async (signal) => (session.mayWrite ? ask(PATH, { signal }) : null), []);
  const [dialog, setDialog] = useState(/** @type {"create" | Token | null} */ (null));
  if (!session.mayWrite) return html`<${Empty}>Tokens need a token that may do everything.<//>`;
  const done = () => {
    setDialog(null);
    reload();
  };
  const columns = [
    { name: "name", show: ({ name }) => name, order: ({ name }) => name },
    { name: "id", show: ({ id }) => id, order: ({ id }) => id, className: "mono faint" },
    { name: "permits", show: ({ permission }) => permission, order: ({ permission }) => permission },
    { name: "account", show: ({ account }) => account ?? "all", order: ({ account }) => account ?? "" },
    { name: "created", show: ({ createdOn }) => when(createdOn), order: ({ createdOn }) => createdOn, className: "faint" },
    { name: "", show: (token) => html`<button class="quiet" aria-label=${`Revoke ${token.name}`} onClick=${() => setDialog(token)}>revoke</button>` },
  ];
  return html`
    <p class="row">
      <button class="primary" disabled=${!session.caller?.isTokenNeeded} onClick=${() => setDialog("create")}>Create token</button>
      ${!session.caller?.isTokenNeeded && html`<span class="faint">This server needs no token yet. The first one is made with <code>vicinal token create NAME</code>; from then on everybody needs one.</span>`}
    </p>
    <${Problem} error=${error} />
    ${data?.length === 0 && html`<${Empty}>No token is stored.<//>`}
    ${data?.length > 0 && html`<${Table} label="Tokens" columns=${columns} rows=${data} rowKey=${({ id }) => id} />`}
    <${Code} action=${{ method: "GET", path: PATH }} />
    ${dialog === "create" && html`<${Create} onClose=${() => setDialog(null)} onDone=${reload} />`}
    ${dialog !== null && dialog !== "create" && html`<${Revoke} token=${dialog} onClose=${() => setDialog(null)} onDone=${done} />`}
  `;
}

/** @param {{onClose: () => void, onDone: () => void}} props */
function Create({ onClose, onDone }) {
  const [name, setName] = useState("");
  const [permission, setPermission] = useState("read");
  const [of, setOf] = useState("");
  const [secret, setSecret] = useState("");
  const { isBusy, error, run } = useAction();
  const body = { name, permission, account: of || null };
  const submit = (event) => {
    event.preventDefault();
    run(async () => {
      setSecret((await ask(PATH, { body })).secret);
      onDone();
    });
  };
  if (secret) {
    return html`
      <${Dialog} title="Token created" onClose=${onClose}>
        <p>It is not shown again.</p>
        <pre tabindex="0" aria-label="Secret">${secret}</pre>
        <footer><${Copy} text=${secret} /></footer>
      <//>
    `;
  }
  return html`
    <${Dialog} title="Create token" onClose=${onClose}>
      <form onSubmit=${submit}>
        <${Field} label="Name" hint="what it is for"><input autofocus required maxlength="100" autocomplete="off" value=${name} onInput=${(event) => setName(event.currentTarget.value)} /><//>
        <${Field} label="Permits"><${Choice} label="Permits" value=${permission} options=${[["read", "reading and queries"], ["write", "everything"]]} onChange=${setPermission} /><//>
        <${Field} label="Account" hint="empty: all accounts"><input maxlength="32" pattern="[A-Za-z0-9_\\-]*" autocomplete="off" value=${of} onInput=${(event) => setOf(event.currentTarget.value)} /><//>
        <${Problem} error=${error} />
        <footer><button class="primary" disabled=${isBusy}>Create</button></footer>
      </form>
      <${Code} action=${{ method: "POST", path: PATH, body }} />
    <//>
  `;
}

/** @param {{token: Token, onClose: () => void, onDone: () => void}} props */
function Revoke({ token, onClose, onDone }) {
  const { isBusy, error, run } = useAction();
  const path = `${PATH}/${token.id}`;
  const confirm = async () => {
    if (await run(() => ask(path, { method: "DELETE" }))) onDone();
  };
  return html`<${TypedConfirmation} title="Revoke token" name=${token.name} verb="Revoke" action=${{ method: "DELETE", path }} isBusy=${isBusy} error=${error} onConfirm=${confirm} onClose=${onClose} text="Whoever uses it is refused at once, also this page if it is yours." />`;
}
