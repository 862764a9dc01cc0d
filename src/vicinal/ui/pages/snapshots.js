/**
 * Snapshots of the whole server: taken, listed, verified, downloaded, restored, deleted.
 */
import { html, useState } from "../core/html.js";
import { ApiError, ask, fetchFile } from "../core/api.js";
import { bytes, count, counted, when } from "../core/format.js";
import { useAction, useLoaded } from "../core/hooks.js";
import { session } from "../core/session.js";
import { Code, Dialog, Empty, Field, Problem, TypedConfirmation } from "../parts/basics.js";
import { Table } from "../parts/table.js";

const PATH = "client/v4/vicinal/snapshots";

/** @typedef {{id: string, started_at: string, byte_count: number, is_scheduled: boolean, indexes: {account: string, name: string}[], missing: {name: string, reason: string}[]}} Snapshot */

/** With a token, which needs no ticket. @param {string} path of a snapshot, or of all @param {string} name @returns {import("../core/commands.js").Action} */
const downloading = (path, name) => ({ method: "POST", path: `${path}/stream`, body: {}, output: `${name}.tar.zst` });

export function SnapshotsPart() {
  const { data, error, reload } = useLoaded(async (signal) => (session.mayWrite ? ask(PATH, { signal }) : null), []);
  const [dialog, setDialog] = useState(/** @type {{verb: string, snapshot: Snapshot} | null} */ (null));
  const [report, setReport] = useState("");
  const action = useAction();
  // The list alone is never refused for what it asks: the server has no folder that could be listed.
  const refusal = error instanceof ApiError && error.status === 400 ? error.message : "";
  if (!session.mayWrite) return html`<${Empty}>Snapshots have everything that the server keeps, so they need a token that may write.<//>`;
  const take = () => action.run(async () => {
    await ask(PATH, { body: {} });
    reload();
  });
  const verify = (snapshot) => action.run(async () => {
    const { file_count: files, byte_count: size, damages } = await ask(`${PATH}/${snapshot.id}/verify`, { method: "POST" });
    setReport(`${snapshot.id}: ${counted(files, "file")}, ${bytes(size)} read, ${damages.length ? damages.map((each) => `${each.file}: ${each.problem}`).join("; ") : "no damage"}`);
  });
  /** @param {Snapshot | null} snapshot null makes a new one */
  const download = (snapshot) => action.run(async () => {
    const { ticket } = await ask(`${PATH}/tickets`, { method: "POST" });
    const [path, name] = snapshot ? [`${PATH}/${snapshot.id}`, `vicinal-snapshot-${snapshot.id}`] : [PATH, "vicinal-snapshot"];
    fetchFile(`${path}/stream?ticket=${encodeURIComponent(ticket)}`, `${name}.tar.zst`);
  });
  /** @type {Snapshot | undefined} */
  const newest = data?.at(-1); // the list has the oldest first
  const done = (said = "") => {
    setDialog(null);
    setReport(said);
    reload();
  };
  return html`
    <p class="row">
      <button class="primary" disabled=${action.isBusy || refusal !== ""} title=${refusal} onClick=${take}>Take snapshot</button>
      <button disabled=${action.isBusy} title="A snapshot of this moment, as a tar compressed by zstd" onClick=${() => download(null)}>Download one now</button>
      <span class="faint">${action.isBusy ? "working…" : report}</span>
    </p>
    ${refusal && html`<p class="notice">${refusal}</p>`}
    <${Problem} error=${refusal ? action.error : (error ?? action.error)} />
    ${data?.length === 0 && html`<${Empty}>No snapshot yet.<//>`}
    ${data?.length > 0 && html`<${Table} label="Snapshots" columns=${columns(setDialog, verify, download, action.isBusy)} rows=${data} rowKey=${({ id }) => id} sort="-begun" />`}
    ${!refusal && html`<${Code} action=${{ method: "POST", path: PATH, body: {} }} />`}
    <${Code} action=${downloading(PATH, "vicinal-snapshot")} label="download one now as code" />
    ${newest && html`
      <${Code} action=${{ method: "POST", path: `${PATH}/${newest.id}/verify` }} label="verify the newest as code" />
      <${Code} action=${downloading(`${PATH}/${newest.id}`, `vicinal-snapshot-${newest.id}`)} label="download the newest as code" />`}
    ${dialog?.verb === "restore" && html`<${Restore} snapshot=${dialog.snapshot} onClose=${() => setDialog(null)} onDone=${done} />`}
    ${dialog?.verb === "delete" && html`<${Delete} snapshot=${dialog.snapshot} onClose=${() => setDialog(null)} onDone=${done} />`}
  `;
}

/** @param {(dialog: {verb: string, snapshot: Snapshot}) => void} open @param {(snapshot: Snapshot) => void} verify @param {(snapshot: Snapshot) => void} download @param {boolean} isBusy */
const columns = (open, verify, download, isBusy) => [
  { name: "snapshot", show: ({ id }) => id, order: ({ id }) => id, className: "mono" },
  { name: "begun", show: (snapshot) => when(snapshot.started_at), order: (snapshot) => snapshot.started_at },
  { name: "indexes", show: ({ indexes }) => count(indexes.length), order: ({ indexes }) => indexes.length, isNumber: true },
  { name: "size", show: (snapshot) => bytes(snapshot.byte_count), order: (snapshot) => snapshot.byte_count, isNumber: true },
  { name: "made", show: (snapshot) => (snapshot.is_scheduled ? "by schedule" : "by hand") },
  { name: "lacks", show: ({ missing }) => missing.map(({ name, reason }) => `${name}: ${reason}`).join("; "), className: "bad" },
  {
    name: "",
    show: (snapshot) => html`<span class="actions">
      <button class="quiet" disabled=${isBusy} onClick=${() => verify(snapshot)}>verify</button>
      <button class="quiet" disabled=${isBusy} onClick=${() => download(snapshot)}>download</button>
      <button class="quiet" disabled=${isBusy} onClick=${() => open({ verb: "restore", snapshot })}>restore</button>
      <button class="quiet" disabled=${isBusy} onClick=${() => open({ verb: "delete", snapshot })}>delete</button></span>`,
  },
];

/** @param {{snapshot: Snapshot, onClose: () => void, onDone: (said: string) => void}} props */
function Restore({ snapshot, onClose, onDone }) {
  const [suffix, setSuffix] = useState("-restored");
  const [chosen, setChosen] = useState(() => new Set(snapshot.indexes.map((_, number) => number)));
  const { isBusy, error, run } = useAction();
  const body = { suffix, indexes: snapshot.indexes.filter((_, number) => chosen.has(number)).map(({ account, name }) => ({ account, name })) };
  const submit = async (event) => {
    event.preventDefault();
    if (await run(() => ask(`${PATH}/${snapshot.id}/restore`, { body }))) onDone(`restored ${body.indexes.map(({ name }) => `${name}${suffix}`).join(", ")}`);
  };
  const toggle = (number) => setChosen((before) => {
    const next = new Set(before);
    if (!next.delete(number)) next.add(number);
    return next;
  });
  return html`
    <${Dialog} title="Restore indexes" onClose=${onClose}>
      <form onSubmit=${submit}>
        <p>They become new indexes beside those that are there.</p>
        ${snapshot.indexes.map(({ account, name }, number) => html`
          <label class="check" key=${number}><input type="checkbox" checked=${chosen.has(number)} onChange=${() => toggle(number)} /> <span class="mono">${account}/${name}${suffix}</span></label>`)}
        <${Field} label="Behind their names"><input required pattern="[A-Za-z0-9_\\-]+" maxlength="32" value=${suffix} onInput=${(event) => setSuffix(event.currentTarget.value)} /><//>
        <${Problem} error=${error} />
        <footer><button class="primary" disabled=${isBusy || !chosen.size}>Restore</button></footer>
      </form>
      <${Code} action=${{ method: "POST", path: `${PATH}/${snapshot.id}/restore`, body }} />
    <//>
  `;
}

/** @param {{snapshot: Snapshot, onClose: () => void, onDone: () => void}} props */
function Delete({ snapshot, onClose, onDone }) {
  const { isBusy, error, run } = useAction();
  const path = `${PATH}/${snapshot.id}`;
  const confirm = async () => {
    if (await run(() => ask(path, { method: "DELETE" }))) onDone();
  };
  return html`<${TypedConfirmation} title="Delete snapshot" name=${snapshot.id} verb="Delete" action=${{ method: "DELETE", path }} isBusy=${isBusy} error=${error} onConfirm=${confirm} onClose=${onClose} text="Nothing brings it back." />`;
}
