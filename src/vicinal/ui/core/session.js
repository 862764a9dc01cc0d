/**
 * Who uses the dashboard: the token, which the browser forgets with the tab, and what it permits.
 */

const KEY = "vicinal-token";

/**
 * @typedef {object} Caller what the server says of the caller
 * @property {"read" | "write"} permission
 * @property {string | null} account null: all accounts
 * @property {string} defaultAccount
 * @property {boolean} isTokenNeeded
 * @property {string} version
 */

class Session {
  constructor() {
    this.token = sessionStorage.getItem(KEY) ?? "";
    /** @type {Caller | null} */
    this.caller = null;
    /** Why a token is asked for; empty while none is. */
    this.locked = "";
    /** Why the server cannot be asked who the caller is; empty while it can. */
    this.problem = "";
    /** @type {Set<() => void>} */
    this.listeners = new Set();
  }

  /** Whether the caller may change anything. */
  get mayWrite() {
    return this.caller?.permission === "write";
  }

  /** Whether the caller may see and change what is of all accounts: metrics, snapshots. */
  get isOfAll() {
    return this.caller !== null && this.caller.account === null;
  }

  /** @param {() => void} listener called after each change @returns {() => void} ends that */
  subscribe(listener) {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  /** @param {Caller} caller */
  open(caller) {
    this.caller = caller;
    this.locked = this.problem = "";
    this.changed();
  }

  /** @param {string} reason */
  lock(reason) {
    this.locked = reason;
    this.problem = "";
    this.caller = null;
    this.changed();
  }

  /** @param {string} problem */
  fail(problem) {
    this.problem = problem;
    this.changed();
  }

  /** @param {string} token empty: none */
  setToken(token) {
    this.token = token;
    if (token) sessionStorage.setItem(KEY, token);
    else sessionStorage.removeItem(KEY);
  }

  changed() {
    for (const listener of this.listeners) listener();
  }
}

export const session = new Session();
