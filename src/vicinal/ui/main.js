/**
 * The dashboard: the frame around the pages, and the way from the address to one of them.
 *
 * Keys: `g` and a letter goes to a page, `/` to its first field, `?` shows them all.
 */
import { html, render, useEffect, useLayoutEffect, useState } from "./core/html.js";
import { ask } from "./core/api.js";
import { usePoll, useSession } from "./core/hooks.js";
import { account, current, go, link, setParams, useRoute } from "./core/route.js";
import { session } from "./core/session.js";
import { Dialog, Field, Problem, TextInput } from "./parts/basics.js";

/**
 * Name in the address -> what is shown, its label and its key; without a label: not in the menu. A
 * page's modules are fetched when it is first shown.
 */
const PAGES = {
  indexes: { load: async () => (await import("./pages/indexes.js")).IndexesPage, label: "Indexes", key: "i" },
  browse: { load: async () => (await import("./pages/browse.js")).BrowsePage, label: "Browse", key: "b" },
  row: { load: async () => (await import("./pages/row.js")).RowPage, label: "", key: "" },
  search: { load: async () => (await import("./pages/search.js")).SearchPage, label: "Search", key: "s" },
  map: { load: async () => (await import("./pages/map.js")).MapPage, label: "Map", key: "m" },
  operations: { load: async () => (await import("./pages/operations.js")).OperationsPage, label: "Operations", key: "o" },
  api: { load: async () => (await import("./pages/reference.js")).ApiPage, label: "API", key: "a" },
};
/** Those that are here, by name. @type {Record<string, any>} */
const components = {};
/** Pages of one index: the menu keeps it. */
const OF_INDEX = ["browse", "row", "search", "map"];
const THEME = "vicinal-theme";
const AGAIN_MS = 3000; // between two tries to reach a server

let isEntering = false;

async function enter() {
  isEntering = true;
  try {
    session.open(await ask("client/v4/user/permission"));
  } catch (error) {
    if (session.locked) session.lock(error.message);
    else session.fail(error.message); // no token helps
  } finally {
    isEntering = false;
  }
}

function App() {
  const { caller, locked, problem } = useSession();
  const route = useRoute();
  const [isHelp, setHelp] = useState(false);
  useLayoutEffect(() => {
    enter();
  }, []);
  useKeys(() => setHelp(true));
  if (locked) return html`<${Locked} reason=${locked} />`;
  if (!caller) return problem ? html`<${Silent} problem=${problem} />` : null;
  const name = shownPage(route.page);
  const { label } = PAGES[name];
  document.title = `${[route.parts.at(-1), label].filter(Boolean).join(" · ") || "Row"} · Vicinal`;
  return html`
    <${Head} route=${route} onHelp=${() => setHelp(true)} />
    <main id="main" key=${account()}><${Page} name=${name} /></main>
    ${isHelp && html`<${Help} onClose=${() => setHelp(false)} />`}
  `;
}

/** The page that an address leads to. @param {string} named */
const shownPage = (named) => (Object.hasOwn(PAGES, named) ? named : "indexes");

/** @param {string} name */
async function load(name) {
  components[name] ??= await PAGES[name].load();
}

/** A page, once its modules are here. @param {{name: string}} props */
function Page({ name }) {
  const [loaded, setLoaded] = useState({ name: "", error: /** @type {Error | null} */ (null) });
  useLayoutEffect(() => {
    load(name).then(
      () => setLoaded({ name, error: null }),
      (error) => setLoaded({ name, error: new Error(`${error.message}. Load this page again.`) }),
    );
  }, [name]);
  const Loaded = components[name];
  if (Loaded) return html`<${Loaded} />`;
  return loaded.name === name ? html`<${Problem} error=${loaded.error} />` : null;
}

/** @param {{route: import("./core/route.js").Route, onHelp: () => void}} props */
function Head({ route, onHelp }) {
  const { caller, mayWrite } = useSession();
  const kept = OF_INDEX.includes(route.page) ? route.parts.slice(0, 1) : [];
  return html`
    <header class="top">
      <a class="name" href=${link("indexes")}>vicinal</a>
      <nav aria-label="Pages">
        ${Object.entries(PAGES).filter(([, { label }]) => label).map(([page, { label }]) => html`
          <a key=${page} href=${link(page, OF_INDEX.includes(page) ? kept : [])} aria-current=${route.page === page || (route.page === "row" && page === "browse") ? "page" : undefined}>${label}</a>`)}
      </nav>
      <span class="caller">
        ${!mayWrite && html`<span class="badge" title="The token may read, and nothing else">read only</span>`}
        <${Account} />
        <button class="quiet" aria-label="Light or dark" title="Light or dark" onClick=${switchTheme}>◐</button>
        <button class="quiet" aria-label="Keys" title="Keys (?)" onClick=${onHelp}>?</button>
        ${caller?.isTokenNeeded && html`<button class="quiet" onClick=${signOut}>sign out</button>`}
      </span>
    </header>
  `;
}

/** The account whose indexes are shown; a token for one account has that one. */
function Account() {
  const own = session.caller?.account;
  const choose = (text) => {
    const chosen = text.trim();
    location.hash = "#/indexes";
    setParams({ account: chosen === session.caller?.defaultAccount ? "" : chosen });
  };
  if (own) return html`<span class="faint" title="Account">${own}</span>`;
  return html`<label class="account"><span class="faint">account</span><${TextInput} aria-label="Account" size="8" value=${account()} onChange=${choose} /></label>`;
}

function signOut() {
  session.setToken("");
  session.lock("You have signed out.");
}

/** Says why there is nothing to see, and asks again. @param {{problem: string}} props */
function Silent({ problem }) {
  usePoll(() => isEntering || enter(), AGAIN_MS);
  return html`
    <main id="main" class="locked">
      <div>
        <h1 class="name">vicinal</h1>
        <p role="alert">The server does not answer: ${problem}</p>
        <footer><button class="primary" onClick=${enter}>Try again</button></footer>
        <p class="faint">It is asked again every ${AGAIN_MS / 1000} seconds.</p>
      </div>
    </main>
  `;
}

/** Asks for a token, which stays in this tab. @param {{reason: string}} props */
function Locked({ reason }) {
  const [token, setToken] = useState("");
  const hadToken = Boolean(session.token);
  const submit = (event) => {
    event.preventDefault();
    session.setToken(token.trim());
    enter();
  };
  return html`
    <main id="main" class="locked">
      <form onSubmit=${submit}>
        <h1 class="name">vicinal</h1>
        <p>${hadToken ? reason : "This server wants a token."}</p>
        <${Field} label="Token"><input type="password" autofocus required autocomplete="off" value=${token} onInput=${(event) => setToken(event.currentTarget.value)} /><//>
        <footer><button class="primary">Open</button></footer>
        <p class="faint">It stays in this tab and is sent to this server alone. Make one with <code>vicinal token create NAME</code>; one with <code>--read-only</code> changes nothing.</p>
      </form>
    </main>
  `;
}

/** @param {{onClose: () => void}} props */
const Help = ({ onClose }) => html`
  <${Dialog} title="Keys" onClose=${onClose}>
    <dl class="keys">
      ${Object.entries(PAGES).filter(([, { key }]) => key).map(([page, { label, key }]) => html`<dt key=${page}><kbd>g</kbd> <kbd>${key}</kbd></dt><dd>${label}</dd>`)}
      <dt><kbd>/</kbd></dt><dd>the page's first field</dd>
      <dt><kbd>↑</kbd> <kbd>↓</kbd> <kbd>Enter</kbd></dt><dd>rows of a table</dd>
      <dt><kbd>+</kbd> <kbd>-</kbd> <kbd>0</kbd> <kbd>Enter</kbd></dt><dd>the map, once it has the focus: zoom, show all, select what is in view; arrows pan</dd>
      <dt><kbd>Esc</kbd></dt><dd>closes a dialog</dd>
      <dt><kbd>?</kbd></dt><dd>these keys</dd>
    </dl>
    <p class="faint">Vicinal ${session.caller?.version}. Everything that a page shows is in its address.</p>
  <//>
`;

/** @param {() => void} onHelp */
function useKeys(onHelp) {
  useEffect(() => {
    let isGoing = false;
    const pressed = (/** @type {KeyboardEvent} */ event) => {
      const target = /** @type {HTMLElement} */ (event.target);
      if (event.ctrlKey || event.metaKey || event.altKey || target.closest("input, textarea, select, dialog")) return;
      if (isGoing) {
        const entry = Object.entries(PAGES).find(([, { key }]) => key && key === event.key);
        const route = current();
        if (entry) go(entry[0], OF_INDEX.includes(entry[0]) && OF_INDEX.includes(route.page) ? route.parts.slice(0, 1) : []);
      } else if (event.key === "/") {
        const first = document.querySelector("[data-main]") ?? document.querySelector("main input");
        /** @type {HTMLElement | null} */ (first)?.focus();
        event.preventDefault();
      } else if (event.key === "?") onHelp();
      isGoing = !isGoing && event.key === "g";
    };
    addEventListener("keydown", pressed);
    return () => removeEventListener("keydown", pressed);
  }, []);
}

function showTheme() {
  const theme = localStorage.getItem(THEME);
  if (theme) document.documentElement.dataset.theme = theme;
}

function switchTheme() {
  const isDark = getComputedStyle(document.documentElement).getPropertyValue("--theme").trim() === "dark";
  localStorage.setItem(THEME, isDark ? "light" : "dark");
  showTheme();
  dispatchEvent(new Event("themechange"));
}

showTheme();
load(shownPage(current().page)).catch(() => {}); // while it is asked who the caller is; told by Page
render(html`<${App} />`, /** @type {HTMLElement} */ (document.getElementById("app")));
