/**
 * A chart of lines over time, drawn by uPlot in the page's colours.
 */
import { html, useEffect, useRef } from "../core/html.js";
import uPlot from "../vendor/uplot.js";

const HEIGHT = 130;
const MARK_SPACE = 20; // pixels between two marks, at least: a quarter of an axis, so that steps of 2 make three marks
/** Between marks in bytes: 1, 2, 4, … of each unit, which read well; decimal ones are 95.4 MiB apart. */
const BYTE_STEPS = Array.from({ length: 50 }, (_, power) => 2 ** power);

/** @param {string} name */
const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** @typedef {{name: string, color: string, values: (number | null)[]}} Line `color` is the name of a variable of the sheet */

/**
 * @param {Line[]} lines
 * @param {(value: number) => string} format
 * @param {number} least the least value that the axis reaches up to
 * @param {boolean} isBytes
 * @param {number} width
 */
function options(lines, format, least, isBytes, width) {
  const axis = { stroke: color("--faint"), grid: { stroke: color("--line"), width: 1 }, ticks: { show: false }, font: "11px system-ui" };
  return {
    width,
    height: HEIGHT,
    cursor: { y: false },
    legend: { show: false },
    scales: { y: { range: (_, low, high) => [Math.min(0, low ?? 0), Math.max(high ?? 0, least) * 1.1] } },
    axes: [{ ...axis, size: 24, space: 80, values: (_, marks) => marks.map((mark) => new Date(mark * 1000).toLocaleTimeString("sv-SE")) }, { ...axis, size: 62, space: MARK_SPACE, ...(isBytes ? { incrs: BYTE_STEPS } : {}), values: (_, marks) => marks.map((mark) => format(mark)) }],
    series: [{}, ...lines.map(({ name, color: variable }) => ({ label: name, stroke: color(variable), width: 1.5, points: { show: false } }))],
  };
}

/**
 * @param {{title: string, times: number[], lines: Line[], format: (value: number) => string, least?: number, isBytes?: boolean}} props `times` in seconds
 */
export function Chart({ title, times, lines, format, least = 1, isBytes = false }) {
  const place = useRef(/** @type {HTMLDivElement | null} */ (null));
  const plot = useRef(/** @type {uPlot | null} */ (null));
  const data = [times, ...lines.map(({ values }) => values)];
  const newest = useRef(data);
  newest.current = data;
  useEffect(() => {
    const element = /** @type {HTMLDivElement} */ (place.current);
    const make = () => {
      plot.current?.destroy();
      plot.current = new uPlot(options(lines, format, least, isBytes, element.clientWidth), newest.current, element);
    };
    make();
    const resized = new ResizeObserver(() => plot.current?.setSize({ width: element.clientWidth, height: HEIGHT }));
    resized.observe(element);
    addEventListener("themechange", make);
    return () => {
      resized.disconnect();
      removeEventListener("themechange", make);
      plot.current?.destroy();
      plot.current = null;
    };
  }, [lines.map(({ name }) => name).join()]);
  useEffect(() => plot.current?.setData(data), [times, lines]);
  const shown = lines.map(({ name, values }) => {
    const value = values.at(-1);
    return `${lines.length > 1 ? `${name} ` : ""}${value === null || value === undefined ? "–" : format(value)}`;
  });
  return html`<div class="chart"><h2>${title}</h2><p class="faint">${shown.map((text, number) => html`<span key=${lines[number].name}>${lines.length > 1 && html`<i style=${{ background: `var(${lines[number].color})` }}></i> `}${text}</span>`)}</p><div ref=${place} role="img" aria-label=${`${title}: ${shown.join(", ")}`}></div></div>`;
}
