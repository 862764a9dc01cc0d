/**
 * The values of a vector as a small plot: a bar for each of them, or for some in a row.
 */
import { counted } from "../core/format.js";
import { html, useEffect, useRef } from "../core/html.js";

const WIDTH = 480;
const HEIGHT = 72;

/**
 * @param {HTMLCanvasElement} canvas
 * @param {number[]} values
 */
function draw(canvas, values) {
  const scale = devicePixelRatio;
  canvas.width = WIDTH * scale;
  canvas.height = HEIGHT * scale;
  const context = canvas.getContext("2d");
  if (!context) return;
  context.scale(scale, scale);
  const style = getComputedStyle(canvas);
  const most = Math.max(...values.map(Math.abs)) || 1;
  const width = WIDTH / values.length;
  values.forEach((value, number) => {
    const height = (Math.abs(value) / most) * (HEIGHT / 2 - 1);
    context.fillStyle = value < 0 ? style.getPropertyValue("--cool") : style.getPropertyValue("--accent");
    context.fillRect(number * width, value < 0 ? HEIGHT / 2 : HEIGHT / 2 - height, Math.max(width - 0.25, 0.5), height);
  });
}

/** @param {{values: number[]}} props */
export function Values({ values }) {
  const canvas = useRef(/** @type {HTMLCanvasElement | null} */ (null));
  useEffect(() => {
    if (canvas.current) draw(canvas.current, values);
  }, [values]);
  const norm = Math.hypot(...values);
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  const facts = `${counted(values.length, "value")}, length ${norm.toPrecision(5)}, mean ${mean.toPrecision(3)}, from ${Math.min(...values).toPrecision(4)} to ${Math.max(...values).toPrecision(4)}`;
  return html`
    <figure class="values">
      <canvas ref=${canvas} role="img" aria-label=${facts}></canvas>
      <figcaption>${facts}</figcaption>
      <details><summary>as numbers</summary><pre tabindex="0">${JSON.stringify(values)}</pre></details>
    </figure>
  `;
}
