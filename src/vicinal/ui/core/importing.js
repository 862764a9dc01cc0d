/**
 * Importing a file of NDJSON, a line for each vector: read and sent piece by piece, so a file may be
 * larger than memory. A line that is refused is set aside with its reason, and the rest goes on.
 */
import { ApiError, failure, indexPath, send, WAIT } from "./api.js";

const BATCH_LINES = 1000;
const BATCH_CHARS = 8_000_000;
const REPORT_BYTES = 8_000_000; // of a file whose lines are all refused
const LINE_CHARS_MAX = 1_000_000; // far more than any record may have
const REFUSED_MAX = 1000; // lines that are kept to be shown; more are counted
const PATIENCE = 8; // times that a busy server is asked again
const SHOWN_CHARS = 120; // characters of a refused line that are kept

/**
 * @typedef {object} Progress
 * @property {number} bytes of the file that have been read
 * @property {number} sent vectors that are stored
 * @property {number} refusedCount
 * @property {{line: number, reason: string, text: string}[]} refused
 */

/** @typedef {{number: number, text: string, isTooLong: boolean}} Line */

/**
 * Yield the lines of a file with their numbers, from 1, as they are read, and how many bytes have been.
 * Of a line that is too long, as a file of another kind may be one, only the beginning is kept.
 * @param {Blob} file
 * @returns {AsyncGenerator<{lines: Line[], bytes: number}>}
 */
async function* linesOf(file) {
  const reader = file.stream().getReader();
  const decoder = new TextDecoder();
  let [rest, head, number, bytes] = ["", "", 0, 0];
  for (;;) {
    const { done, value } = await reader.read();
    bytes += value?.length ?? 0;
    rest += done ? decoder.decode() : decoder.decode(value, { stream: true });
    const texts = rest.split("\n");
    rest = done ? "" : /** @type {string} */ (texts.pop());
    /** @type {Line[]} */
    const lines = [];
    for (const text of texts) {
      number += 1;
      const isTooLong = head !== "" || text.length > LINE_CHARS_MAX;
      if (isTooLong || text.trim()) lines.push({ number, text: head || text, isTooLong });
      head = "";
    }
    if (rest.length > LINE_CHARS_MAX) {
      head ||= rest.slice(0, SHOWN_CHARS);
      rest = "";
    }
    yield { lines, bytes };
    if (done) return;
  }
}

/**
 * Return why a line cannot be a vector of this index, empty if it may be: what is wrong is told by
 * its line, without asking the server.
 * @param {string} text
 * @param {number} dimensions
 */
export function problemOf(text, dimensions) {
  let record;
  try {
    record = JSON.parse(text);
  } catch (error) {
    return `not JSON: ${error.message}`;
  }
  if (record === null || typeof record !== "object" || Array.isArray(record)) return "not a JSON object";
  if (typeof record.id !== "string") return "id: expected a string";
  if (!Array.isArray(record.values)) return "values: expected an array of numbers";
  if (record.values.length !== dimensions) return `values: expected ${dimensions} numbers, got ${record.values.length}`;
  return "";
}

/** Wait, unless that is stopped. @param {number} seconds @param {AbortSignal} signal */
const pause = (seconds, signal) =>
  new Promise((done, stop) => {
    const timer = setTimeout(done, seconds * 1000);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      stop(signal.reason);
    });
  });

/**
 * Send lines in one request, again while the server is too busy.
 * @param {string} path
 * @param {Line[]} lines
 * @param {AbortSignal} signal
 */
async function sendLines(path, lines, signal) {
  const body = lines.map(({ text }) => text).join("\n");
  for (let attempt = 0; ; attempt += 1) {
    const response = await send(path, { method: "POST", body, headers: { "content-type": "application/x-ndjson", ...WAIT }, signal });
    if (response.ok) return;
    const isBusy = response.status === 429 || response.status === 503;
    if (!isBusy || attempt === PATIENCE) throw await failure(response);
    const seconds = Number(response.headers.get("retry-after") ?? "1");
    await pause(seconds, signal);
  }
}

/**
 * Send lines; where the server refuses them, halve them until the refused ones are known.
 * @param {string} path
 * @param {Line[]} lines
 * @param {AbortSignal} signal
 * @param {(line: Line, reason: string) => void} refuse
 * @returns {Promise<number>} how many are stored
 */
async function sendOrSplit(path, lines, signal, refuse) {
  try {
    await sendLines(path, lines, signal);
    return lines.length;
  } catch (error) {
    if (!(error instanceof ApiError) || ![400, 413].includes(error.status)) throw error;
    if (lines.length === 1) {
      refuse(lines[0], error.message);
      return 0;
    }
    const middle = lines.length >> 1;
    return (await sendOrSplit(path, lines.slice(0, middle), signal, refuse)) + (await sendOrSplit(path, lines.slice(middle), signal, refuse));
  }
}

/**
 * Import a file into an index; `report` is called as it goes on.
 * @param {{file: File, account: string, index: string, dimensions: number, mode: "upsert" | "insert", signal: AbortSignal, report: (progress: Progress) => void}} wanted
 */
export async function importFile({ file, account, index, dimensions, mode, signal, report }) {
  const path = `${indexPath(account, index)}/${mode}`;
  /** @type {Progress} */
  const progress = { bytes: 0, sent: 0, refusedCount: 0, refused: [] };
  /** @type {Line[]} */
  let batch = [];
  let size = 0;
  const refuse = (line, reason) => {
    progress.refusedCount += 1;
    if (progress.refused.length < REFUSED_MAX) progress.refused.push({ line: line.number, reason, text: line.text.slice(0, SHOWN_CHARS) });
  };
  const flush = async (bytes) => {
    if (batch.length) progress.sent += await sendOrSplit(path, batch, signal, refuse);
    [batch, size] = [[], 0];
    progress.bytes = bytes;
    report({ ...progress, refused: [...progress.refused] });
  };
  report({ ...progress });
  for await (const { lines, bytes } of linesOf(file)) {
    for (const line of lines) {
      signal.throwIfAborted();
      const problem = line.isTooLong ? `longer than ${LINE_CHARS_MAX} characters` : problemOf(line.text, dimensions);
      if (problem) refuse(line, problem);
      else {
        batch.push(line);
        size += line.text.length;
      }
      if (batch.length >= BATCH_LINES || size >= BATCH_CHARS) await flush(bytes);
    }
    signal.throwIfAborted();
    if (bytes - progress.bytes >= REPORT_BYTES) await flush(bytes);
  }
  await flush(file.size);
}
