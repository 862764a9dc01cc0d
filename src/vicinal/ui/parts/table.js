/**
 * Tables: columns that sort, rows that the arrow keys reach, Enter that opens one.
 */
import { html, useMemo, useState } from "../core/html.js";

/**
 * @template T
 * @typedef {object} Column
 * @property {string} name
 * @property {(row: T) => any} show
 * @property {(row: T) => string | number | null | undefined} [order] by what rows are sorted; none: not by this
 * @property {boolean} [isNumber]
 * @property {string} [className]
 */

/**
 * @template T
 * @param {T[]} rows
 * @param {Column<T> | undefined} column
 * @param {boolean} isDescending
 */
function sorted(rows, column, isDescending) {
  if (!column?.order) return rows;
  const { order } = column;
  const sign = isDescending ? -1 : 1;
  return [...rows].sort((a, b) => {
    const [x, y] = [order(a), order(b)];
    if (x === y) return 0;
    if (x === null || x === undefined) return 1;
    if (y === null || y === undefined) return -1;
    return x < y ? -sign : sign;
  });
}

/** Move the focus between rows. @param {KeyboardEvent} event */
function moved(event) {
  const row = /** @type {HTMLElement} */ (event.currentTarget);
  if (event.target !== row) return;
  const down = event.key === "ArrowDown" || event.key === "j";
  const up = event.key === "ArrowUp" || event.key === "k";
  if (!down && !up) return;
  const next = down ? row.nextElementSibling : row.previousElementSibling;
  if (next instanceof HTMLElement) next.focus();
  event.preventDefault();
}

/**
 * @param {{columns: Column<any>[], rows: any[], rowKey: (row: any) => string, onOpen?: (row: any) => void, label: string, sort?: string, onSort?: (sort: string) => void, selected?: string}} props
 *   `sort` is the name of a column, with a minus in front for the greatest first
 */
export function Table({ columns, rows, rowKey, onOpen, label, sort, onSort, selected }) {
  const [own, setOwn] = useState(sort ?? "");
  const wanted = onSort ? (sort ?? "") : own;
  const isDescending = wanted.startsWith("-");
  const name = wanted.replace(/^-/, "");
  const shown = useMemo(
    () => sorted(rows, columns.find((column) => column.name === name), isDescending),
    [rows, columns, name, isDescending],
  );
  const choose = (column) => {
    const next = name !== column.name ? (column.isNumber ? `-${column.name}` : column.name) : isDescending ? column.name : `-${column.name}`;
    (onSort ?? setOwn)(next);
  };
  const pressed = (event, row) => {
    if (event.key === "Enter" && event.target === event.currentTarget) onOpen?.(row);
    else moved(event);
  };
  return html`
    <div class="scroll" role="region" aria-label=${label} tabindex="0">
      <table>
        <thead><tr>${columns.map((column) => html`<${Head} key=${column.name} column=${column} isSorted=${name === column.name} isDescending=${isDescending} onChoose=${choose} />`)}</tr></thead>
        <tbody>
          ${shown.map((row) => html`
            <tr key=${rowKey(row)} tabindex=${onOpen ? 0 : undefined} class=${rowKey(row) === selected ? "selected" : ""}
                onClick=${onOpen && ((event) => event.target.closest("a, button, input") || onOpen(row))} onKeyDown=${(event) => pressed(event, row)}>
              ${columns.map((column) => html`<td key=${column.name} class=${`${column.isNumber ? "number" : ""} ${column.className ?? ""}`}>${column.show(row)}</td>`)}
            </tr>
          `)}
        </tbody>
      </table>
    </div>
  `;
}

/** @param {{column: Column<any>, isSorted: boolean, isDescending: boolean, onChoose: (column: Column<any>) => void}} props */
function Head({ column, isSorted, isDescending, onChoose }) {
  const order = isSorted ? (isDescending ? "descending" : "ascending") : undefined;
  return html`
    <th scope="col" class=${column.isNumber ? "number" : ""} aria-sort=${order}>
      ${column.order
        ? html`<button type="button" class="head" onClick=${() => onChoose(column)}>${column.name}<i aria-hidden="true">${isSorted ? (isDescending ? "↓" : "↑") : ""}</i></button>`
        : column.name}
    </th>
  `;
}
