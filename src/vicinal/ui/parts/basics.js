/**
 * Small parts that every page has: notices, dialogs, actions as code, menus of choices.
 */
import { html, useEffect, useRef, useState } from "../core/html.js";
import { forms } from "../core/commands.js";
import { useDraft } from "../core/hooks.js";
import { account } from "../core/route.js";

/** An error in the place where it matters. @param {{error: Error | null | undefined}} props */
export const Problem = ({ error }) => (error ? html`<p class="problem" role="alert">${error.message}</p>` : null);

/** Hints that the server gave beside a result. @param {{messages?: {message: string}[]}} props */
export const Notices = ({ messages = [] }) =>
  messages.map(({ message }) => html`<p class="notice" key=${message}>${message}</p>`);

/** What is shown where there is nothing. @param {{children?: any}} props */
export const Empty = ({ children }) => html`<div class="empty">${children}</div>`;

/**
 * A label with its control.
 * @param {{label: any, hint?: string, children?: any}} props
 */
export const Field = ({ label, hint, children }) => html`
  <label class="field"><span>${label}</span>${children}${hint && html`<small>${hint}</small>`}</label>
`;

/**
 * One of a few choices, where something beside it says what is chosen.
 * @param {{label: string, value: string, options: (string | [value: string, text: string])[], onChange: (value: string) => void, disabled?: boolean}} props
 */
export const Choice = ({ label, value, options, onChange, disabled }) => html`
  <select aria-label=${label} value=${value} disabled=${disabled} onChange=${(event) => onChange(event.currentTarget.value)}>
    ${options.map((option) => {
      const [key, text] = Array.isArray(option) ? option : [option, option];
      return html`<option key=${key} value=${key} selected=${key === value}>${text}</option>`;
    })}
  </select>
`;

/** One of a few choices, with its label before it. @param {Parameters<typeof Choice>[0]} props */
export const LabelledChoice = (props) => html`<label class="choice"><span>${props.label}</span><${Choice} ...${props} /></label>`;

/**
 * A text that counts once its field is left or Enter is pressed.
 * @param {{value: string, onChange: (value: string) => void, [attribute: string]: any}} props
 */
export function TextInput({ value, onChange, ...attributes }) {
  const [draft, setDraft] = useDraft(value);
  return html`<input spellcheck=${false} ...${attributes} value=${draft} onInput=${(event) => setDraft(event.currentTarget.value)} onChange=${(event) => onChange(event.currentTarget.value)} />`;
}

/**
 * A dialog above the page; Escape and the button close it.
 * @param {{title: string, onClose: () => void, isWide?: boolean, children?: any}} props
 */
export function Dialog({ title, onClose, isWide, children }) {
  const element = useRef(/** @type {HTMLDialogElement | null} */ (null));
  useEffect(() => {
    element.current?.showModal();
  }, []);
  return html`
    <dialog ref=${element} class=${isWide ? "wide" : ""} aria-label=${title} onClose=${onClose}>
      <header><h2>${title}</h2><button class="quiet" aria-label="Close" onClick=${onClose}>✕</button></header>
      ${children}
    </dialog>
  `;
}

/** What nobody can type: controls, signs that are not seen, spaces of other kinds. */
const UNTYPED = /[\p{C}\p{Zl}\p{Zp}]|[^\S ]|^ | $/u;

/**
 * Asks for the name of what is about to go, so that nothing goes by a slip; for the verb where nobody
 * can type the name.
 * @param {{title: string, name: string, text: any, verb: string, action: import("../core/commands.js").Action, label?: string, isBusy: boolean, error: Error | null, onConfirm: () => void, onClose: () => void}} props
 */
export function TypedConfirmation({ title, name, text, verb, action, label, isBusy, error, onConfirm, onClose }) {
  const [typed, setTyped] = useState("");
  const wanted = UNTYPED.test(name) ? verb.toLowerCase() : name;
  const submit = (event) => {
    event.preventDefault();
    if (typed === wanted) onConfirm();
  };
  return html`
    <${Dialog} title=${title} onClose=${onClose}>
      <form onSubmit=${submit}>
        <p>${text}</p>
        <${Field} label=${html`Type <bdi>${wanted}</bdi> to go on`}>
          <input autofocus autocomplete="off" spellcheck=${false} value=${typed} onInput=${(event) => setTyped(event.currentTarget.value)} />
        <//>
        <${Problem} error=${error} />
        <footer><button class="danger" disabled=${typed !== wanted || isBusy}>${verb}</button></footer>
      </form>
      <${Code} action=${action} label=${label} />
    <//>
  `;
}

/** A button that puts a text into the clipboard, where pages may (HTTPS, loopback). @param {{text: string}} props */
export function Copy({ text }) {
  const [isCopied, setCopied] = useState(false);
  const copy = async () => {
    await navigator.clipboard.writeText(text);
    setCopied(true);
    setTimeout(() => setCopied(false), 1500);
  };
  if (!navigator.clipboard) return null;
  return html`<button type="button" class="quiet copy" onClick=${copy}>${isCopied ? "copied" : "copy"}</button>`;
}

/**
 * An action as curl, Python, npm and wrangler have it, folded away until it is asked for.
 * @param {{action: import("../core/commands.js").Action, label?: string}} props
 */
export function Code({ action, label = "as code" }) {
  const [form, setForm] = useState("curl");
  const all = forms(action, account());
  const [, text] = all.find(([name]) => name === form) ?? all[0];
  return html`
    <details class="code">
      <summary>${label}</summary>
      <div class="tabs" role="group" aria-label="Form">
        ${all.map(([name]) => html`
          <button type="button" key=${name} class="tab" aria-pressed=${name === form} onClick=${() => setForm(name)}>${name}</button>
        `)}
        <${Copy} text=${text} />
      </div>
      <pre tabindex="0">${text}</pre>
    </details>
  `;
}

/** A share of a whole as a bar. @param {{share: number}} props */
export const Bar = ({ share }) => html`
  <span class="bar" aria-hidden="true"><i style=${{ width: `${Math.max(0, Math.min(1, share)) * 100}%` }}></i></span>
`;
