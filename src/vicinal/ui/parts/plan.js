/**
 * The explanation of a search: what was planned for each part of an index, and what each step took.
 */
import { html } from "../core/html.js";
import { count, counted, milliseconds } from "../core/format.js";

/** @typedef {{part: string, vectorCount: number, selectedCount: number, method: string, scoredCount: number, measuredCount: number, selectMs: number, proposeMs: number, measureMs: number, words?: {scoredCount: number, postingCount: number, searchMs: number}}} Step */

/** @param {Step} step */
const total = (step) => step.selectMs + step.proposeMs + step.measureMs + (step.words?.searchMs ?? 0);

/** Milliseconds of all steps, which may have run at one time. @param {Step[]} steps */
export const work = (steps) => steps.reduce((sum, step) => sum + total(step), 0);

/**
 * What was planned for each part of the index, and what it took.
 * @param {{steps: Step[], partCount?: number}} props `partCount` where not all parts are shown
 */
export function Plan({ steps, partCount = steps.length }) {
  const most = Math.max(...steps.map(total), 1e-6);
  return html`
    <h2>Plan</h2>
    <p class="faint">${counted(partCount, "part")}, ${milliseconds(work(steps))} of work${steps.length < partCount ? " in the slowest of them" : ""}</p>
    <ol class="plan">
      ${steps.map((step) => html`
        <li key=${step.part}>
          <p><b class="mono">${step.part}</b> ${step.method}</p>
          <p class="faint">${counted(step.vectorCount, "vector")} → ${count(step.selectedCount)} selected${step.method !== "words" && html` → ${count(step.scoredCount)} scored → ${count(step.measuredCount)} measured exactly`}</p>
          ${step.words && html`<p class="faint">words: ${counted(step.words.postingCount, "posting")} read → ${count(step.words.scoredCount)} scored in ${milliseconds(step.words.searchMs)}</p>`}
          <p class="steps" title=${`filter ${milliseconds(step.selectMs)}, candidates ${milliseconds(step.proposeMs)}, distances ${milliseconds(step.measureMs)}`}>
            <i class="select" style=${{ width: `${(step.selectMs / most) * 100}%` }}></i><i class="propose" style=${{ width: `${(step.proposeMs / most) * 100}%` }}></i><i class="measure" style=${{ width: `${(step.measureMs / most) * 100}%` }}></i>
          </p>
        </li>`)}
    </ol>
    <p class="legend faint"><i class="select"></i> filter <i class="propose"></i> candidates <i class="measure"></i> distances</p>
  `;
}
