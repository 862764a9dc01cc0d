/**
 * Data that a page waits for: loaded when it is needed, cancelled when it is not any more.
 *
 * What is asked for is asked for before the page is painted without it, which may take 0.1 s.
 */
import { useEffect, useLayoutEffect, useRef, useState } from "./html.js";
import { session } from "./session.js";

/**
 * @template T
 * @typedef {object} Loaded
 * @property {T | undefined} data the newest that came, also while newer is loaded
 * @property {Error | null} error
 * @property {boolean} isLoading
 * @property {() => void} reload
 */

/**
 * What is edited of a text, until that is another one. It stays when the page is drawn anew meanwhile,
 * and when the text becomes what `edit` said that it would.
 * @template T
 * @param {string} text
 * @param {(text: string) => T} read
 * @returns {[edited: T, edit: (value: T, next?: string) => void]}
 */
export function useEdited(text, read) {
  const kept = useRef({ text, next: text, value: /** @type {T | undefined} */ (undefined) });
  const [, setTurn] = useState(0);
  if (kept.current.value === undefined || ![kept.current.text, kept.current.next].includes(text)) {
    kept.current = { text, next: text, value: read(text) };
  } else if (text === kept.current.next) kept.current.text = text; // from now on the one before is another
  const edit = (value, next = kept.current.next) => {
    kept.current = { text: kept.current.text, next, value };
    setTurn((number) => number + 1);
  };
  return [/** @type {T} */ (kept.current.value), edit];
}

/**
 * A text that is edited: what was typed, until the text that it began with is another one.
 * @param {string} text
 * @returns {[string, (draft: string) => void]}
 */
export function useDraft(text) {
  const [draft, edit] = useEdited(text, String);
  return [draft, (typed) => edit(typed)];
}

/**
 * Load data when `keys` change, and after `reload`.
 * @template T
 * @param {(signal: AbortSignal) => Promise<T>} load
 * @param {unknown[]} keys
 * @returns {Loaded<T>}
 */
export function useLoaded(load, keys) {
  const [turn, setTurn] = useState(0);
  const [state, setState] = useState(/** @type {{data?: T, error: Error | null, isLoading: boolean}} */ ({ error: null, isLoading: true }));
  useLayoutEffect(() => {
    const controller = new AbortController();
    setState((before) => ({ ...before, isLoading: true }));
    load(controller.signal).then(
      (data) => {
        if (!controller.signal.aborted) setState({ data, error: null, isLoading: false });
      },
      (error) => {
        if (!controller.signal.aborted) setState({ error, isLoading: false });
      },
    );
    return () => controller.abort();
  }, [...keys, turn]);
  return { ...state, data: state.data, reload: () => setTurn((number) => number + 1) };
}

/**
 * Call `work` now and then every `milliseconds` while the page is visible.
 * @param {() => unknown} work which does nothing while the call before is under way
 * @param {number} milliseconds
 */
export function usePoll(work, milliseconds) {
  const newest = useRef(work);
  newest.current = work;
  useEffect(() => {
    const timer = setInterval(() => {
      if (!document.hidden) newest.current();
    }, milliseconds);
    return () => clearInterval(timer);
  }, [milliseconds]);
}

/** Draw again when the session changes. */
export function useSession() {
  const [, setTurn] = useState(0);
  useLayoutEffect(() => session.subscribe(() => setTurn((number) => number + 1)), []);
  return session;
}

/**
 * A button's work: while it runs the button rests, and its error is kept to be shown.
 * @returns {{isBusy: boolean, error: Error | null, run: (work: () => Promise<unknown>) => Promise<boolean>}}
 */
export function useAction() {
  const [state, setState] = useState(/** @type {{isBusy: boolean, error: Error | null}} */ ({ isBusy: false, error: null }));
  const run = async (work) => {
    setState({ isBusy: true, error: null });
    try {
      await work();
    } catch (error) {
      setState({ isBusy: false, error });
      return false;
    }
    setState({ isBusy: false, error: null });
    return true;
  };
  return { ...state, run };
}
