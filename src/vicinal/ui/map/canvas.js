/**
 * The map itself: points below, the query and the lasso above; panned, zoomed and pointed at.
 *
 * Keys, while it has the focus: arrows pan, + and - zoom, 0 shows all, Enter selects what is in view.
 */
import { counted } from "../core/format.js";
import { html, useEffect, useRef, useState } from "../core/html.js";
import { Points } from "./gl.js";
import { fit, Grid, inside, toMap, toScreen, zoomed } from "./view.js";

const NEAR = 9; // pixels from the pointer to a point
const PAN = 60; // pixels of a key
const ZOOM = 1.25;
const FRAME_MS = 30; // a gesture whose frames take longer draws fewer points
const REST_MS = 150; // without a movement: the gesture rests, and all points are drawn
const STEP_MAX = 32;

/** The size of points: smaller where there are many. @param {number} count */
const pointSize = (count) => Math.max(2.5, Math.min(9, 700 / Math.sqrt(count + 1)));

/**
 * @typedef {object} Props
 * @property {import("./read.js").PointMap} map
 * @property {Uint8Array} colors
 * @property {boolean} isLasso whether dragging draws a lasso
 * @property {import("./view.js").View | null} view null: the one that shows all
 * @property {(view: import("./view.js").View | null) => void} onView when a gesture has ended
 * @property {(number: number) => void} onHover the point below the pointer, -1 for none
 * @property {(number: number) => void} onOpen
 * @property {(numbers: number[]) => void} onSelect
 */

/** What is drawn and pointed at, outside of preact: it changes with each movement. */
class Scene {
  /** @param {HTMLCanvasElement} canvas @param {HTMLCanvasElement} overlay */
  constructor(canvas, overlay) {
    this.points = new Points(canvas);
    this.overlay = overlay;
    this.size = { width: 1, height: 1 };
    /** @type {import("./view.js").View} */
    this.view = { x: 0, y: 0, zoom: 1 };
    /** @type {import("./read.js").PointMap | null} */
    this.map = null;
    /** @type {Grid | null} */
    this.grid = null;
    /** @type {[number, number][]} */
    this.lasso = [];
    this.hovered = -1;
    this.frame = 0;
    /** A gesture draws the first of every `step` points; it finds out how many. */
    this.step = 1;
    this.rest = 0; // a timer, while a gesture moves the map
    this.movedAt = 0; // the frame before, of the same gesture
  }

  /** Draw before the next picture, once however often this is called. */
  draw() {
    this.frame ||= requestAnimationFrame((time) => {
      this.frame = 0;
      if (this.rest) this.adapt(time);
      this.points.draw(this.view, this.size, pointSize(this.points.count), this.rest ? this.step : 1);
      this.drawOverlay();
      this.overlay.dataset.drawn = String(this.points.count);
    });
  }

  /** Show another part while a gesture moves the map. @param {import("./view.js").View} view */
  move(view) {
    clearTimeout(this.rest);
    this.rest = setTimeout(() => {
      this.rest = this.movedAt = 0;
      this.draw();
    }, REST_MS);
    this.show(view);
  }

  /** Draw fewer points where the frame before took long. @param {number} time of this frame */
  adapt(time) {
    if (this.movedAt && time - this.movedAt > FRAME_MS && this.step < STEP_MAX) this.step *= 2;
    this.movedAt = time;
  }

  drawOverlay() {
    const { overlay, size, map, view } = this;
    const context = /** @type {CanvasRenderingContext2D} */ (overlay.getContext("2d"));
    overlay.width = size.width * devicePixelRatio;
    overlay.height = size.height * devicePixelRatio;
    context.scale(devicePixelRatio, devicePixelRatio);
    const ink = getComputedStyle(overlay).getPropertyValue("--ink");
    context.strokeStyle = context.fillStyle = ink;
    context.lineWidth = 1.5;
    if (map?.query) this.drawQuery(context, map.query);
    if (map && this.hovered >= 0) {
      const [left, top] = toScreen(view, size, map.positions[2 * this.hovered], map.positions[2 * this.hovered + 1]);
      context.beginPath();
      context.arc(left, top, 8, 0, 7);
      context.stroke();
    }
    if (this.lasso.length > 1) {
      context.beginPath();
      this.lasso.forEach(([x, y]) => context.lineTo(...toScreen(view, size, x, y)));
      context.closePath();
      context.stroke();
      context.globalAlpha = 0.08;
      context.fill();
    }
  }

  /** @param {CanvasRenderingContext2D} context @param {[number, number]} query */
  drawQuery(context, query) {
    const [left, top] = toScreen(this.view, this.size, ...query);
    context.lineWidth = 2;
    context.beginPath();
    for (const [dx, dy] of [[1, 0], [0, 1]]) {
      context.moveTo(left - 12 * dx, top - 12 * dy);
      context.lineTo(left + 12 * dx, top + 12 * dy);
    }
    context.stroke();
    context.beginPath();
    context.arc(left, top, 6, 0, 7);
    context.stroke();
    context.font = "12px system-ui";
    context.fillText("query", left + 10, top - 8);
    context.lineWidth = 1.5;
  }

  /** @param {number} left @param {number} top @returns {number} the point there, -1 for none */
  at(left, top) {
    const [x, y] = toMap(this.view, this.size, left, top);
    return this.grid?.nearest(x, y, NEAR / this.view.zoom) ?? -1;
  }

  /** Show another part, as far as numbers reach. @param {import("./view.js").View} view */
  show(view) {
    if (Number.isFinite(view.zoom) && view.zoom > 1e-9 && view.zoom < 1e12) this.view = view;
    this.draw();
  }
}

/** @param {Props} props */
export function MapCanvas(props) {
  const [canvas, overlay] = [useRef(/** @type {any} */ (null)), useRef(/** @type {any} */ (null))];
  const scene = useRef(/** @type {Scene | null} */ (null));
  const newest = useRef(props);
  const [problem, setProblem] = useState("");
  newest.current = props;
  useEffect(() => {
    try {
      scene.current = new Scene(canvas.current, overlay.current);
    } catch (error) {
      setProblem(error.message);
      return undefined;
    }
    const resized = new ResizeObserver(([{ contentRect }]) => {
      const made = /** @type {Scene} */ (scene.current);
      made.size = { width: contentRect.width, height: contentRect.height };
      const { map, view } = newest.current;
      made.show(view ?? fit(map.positions, made.size));
    });
    resized.observe(overlay.current);
    const ended = gestures(overlay.current, scene.current, newest);
    return () => {
      resized.disconnect();
      ended();
      clearTimeout(scene.current?.rest);
      scene.current?.points.close();
    };
  }, []);
  useEffect(() => showMap(scene.current, props.map, props.view), [props.map]);
  useEffect(() => {
    if (props.view === null && scene.current?.map) scene.current.show(fit(scene.current.map.positions, scene.current.size));
  }, [props.view === null]);
  useEffect(() => {
    scene.current?.points.setColors(props.colors);
    scene.current?.draw();
  }, [props.colors, props.map]);
  if (problem) return html`<div class="map"><p class="problem">${problem}</p></div>`;
  return html`
    <canvas ref=${canvas} aria-hidden="true"></canvas>
    <canvas ref=${overlay} tabindex="0" role="img" data-map aria-label=${`Map of ${counted(props.map.ids.length, "vector")}. Arrows pan, plus and minus zoom, 0 shows all, Enter selects what is in view.`} onKeyDown=${(event) => scene.current && keyed(event, scene.current, newest.current)}></canvas>
  `;
}

/** @param {Scene | null} scene @param {import("./read.js").PointMap} map @param {import("./view.js").View | null} view */
function showMap(scene, map, view) {
  if (!scene) return;
  scene.map = map;
  scene.grid = new Grid(map.positions);
  scene.hovered = -1;
  scene.lasso = [];
  scene.points.setPositions(map.positions);
  scene.step = 1;
  scene.show(view ?? fit(map.positions, scene.size));
}

/** @param {KeyboardEvent} event @param {Scene} scene @param {Props} props */
function keyed(event, scene, { map, onView, onSelect }) {
  const { view, size } = scene;
  const pan = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
  if (pan) scene.show({ ...view, x: view.x + (pan[0] * PAN) / view.zoom, y: view.y + (pan[1] * PAN) / view.zoom });
  else if (event.key === "+" || event.key === "-") scene.show(zoomed(view, size, event.key === "+" ? ZOOM : 1 / ZOOM, size.width / 2, size.height / 2));
  else if (event.key === "0") scene.show(fit(map.positions, size));
  else if (event.key === "Enter") {
    const corners = /** @type {[number, number][]} */ ([[0, 0], [size.width, 0], [size.width, size.height], [0, size.height]]);
    onSelect(inside(map.positions, corners.map(([left, top]) => toMap(view, size, left, top))));
    return;
  }
  else return;
  event.preventDefault();
  onView(event.key === "0" ? null : scene.view);
}

/**
 * Listen to pointer and wheel; return what ends that.
 * @param {HTMLCanvasElement} overlay
 * @param {Scene} scene
 * @param {{current: Props}} newest
 */
function gestures(overlay, scene, newest) {
  const controller = new AbortController();
  const listen = (name, listener) => overlay.addEventListener(name, listener, { signal: controller.signal, passive: false });
  /** @type {{left: number, top: number, isLasso: boolean, hasMoved: boolean} | null} */
  let drag = null;
  let wheeled = 0;
  listen("pointerdown", (event) => {
    overlay.setPointerCapture(event.pointerId);
    drag = { left: event.offsetX, top: event.offsetY, isLasso: newest.current.isLasso || event.shiftKey, hasMoved: false };
    if (drag.isLasso) scene.lasso = [toMap(scene.view, scene.size, event.offsetX, event.offsetY)];
  });
  listen("pointermove", (event) => {
    if (!drag) {
      hover(scene, scene.at(event.offsetX, event.offsetY), newest.current);
      return;
    }
    const [dx, dy] = [event.offsetX - drag.left, event.offsetY - drag.top];
    drag.hasMoved ||= Math.hypot(dx, dy) > 3;
    if (drag.isLasso) scene.lasso.push(toMap(scene.view, scene.size, event.offsetX, event.offsetY));
    else {
      const { view } = scene;
      scene.move({ ...view, x: view.x - dx / view.zoom, y: view.y + dy / view.zoom });
      [drag.left, drag.top] = [event.offsetX, event.offsetY];
    }
    scene.draw();
  });
  listen("pointerup", (event) => {
    const ended = drag;
    drag = null;
    if (!ended) return;
    if (!ended.hasMoved) {
      scene.lasso = [];
      const number = scene.at(event.offsetX, event.offsetY);
      if (number >= 0) newest.current.onOpen(number);
      else newest.current.onSelect([]);
    } else if (ended.isLasso) newest.current.onSelect(inside(newest.current.map.positions, scene.lasso));
    else newest.current.onView(scene.view);
    scene.draw();
  });
  listen("wheel", (event) => {
    event.preventDefault();
    scene.move(zoomed(scene.view, scene.size, Math.exp(-event.deltaY * 0.0015), event.offsetX, event.offsetY));
    clearTimeout(wheeled);
    wheeled = setTimeout(() => newest.current.onView(scene.view), 250);
  });
  return () => controller.abort();
}

/** @param {Scene} scene @param {number} number @param {Props} props */
function hover(scene, number, { onHover }) {
  if (number === scene.hovered) return;
  scene.hovered = number;
  scene.draw();
  onHover(number);
}
