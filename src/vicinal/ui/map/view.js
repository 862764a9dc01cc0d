/**
 * Geometry of a map: from positions to the screen and back, the point below the pointer, the points
 * inside a lasso.
 */

/** @typedef {{x: number, y: number, zoom: number}} View the position in the middle, and pixels for a unit */
/** @typedef {{width: number, height: number}} Size in pixels of the sheet */

/**
 * Return the view that shows all points but for a few outliers.
 * @param {Float32Array} positions
 * @param {Size} size
 * @returns {View}
 */
export function fit(positions, size) {
  const range = (offset) => {
    const sorted = positions.filter((_, number) => number % 2 === offset).sort();
    const cut = Math.floor(sorted.length * 0.002);
    return [sorted[cut] ?? 0, sorted[sorted.length - 1 - cut] ?? 0];
  };
  const [[left, right], [bottom, top]] = [range(0), range(1)];
  const zoom = 0.92 * Math.min(size.width / (right - left || 1), size.height / (top - bottom || 1));
  return { x: (left + right) / 2, y: (bottom + top) / 2, zoom };
}

/** @param {View} view @param {Size} size @param {number} x @param {number} y @returns {[number, number]} */
export const toScreen = (view, size, x, y) => [(x - view.x) * view.zoom + size.width / 2, size.height / 2 - (y - view.y) * view.zoom];

/** @param {View} view @param {Size} size @param {number} left @param {number} top @returns {[number, number]} */
export const toMap = (view, size, left, top) => [(left - size.width / 2) / view.zoom + view.x, (size.height / 2 - top) / view.zoom + view.y];

/**
 * Zoom by a factor; what is below the pointer stays there.
 * @param {View} view @param {Size} size @param {number} factor @param {number} left @param {number} top
 * @returns {View}
 */
export function zoomed(view, size, factor, left, top) {
  const [x, y] = toMap(view, size, left, top);
  const zoom = view.zoom * factor;
  return { x: x - (left - size.width / 2) / zoom, y: y - (size.height / 2 - top) / zoom, zoom };
}

const CELLS = 256; // of the grid along each side

/** Finds the point nearest to a position, by a grid over all points. */
export class Grid {
  /** @param {Float32Array} positions */
  constructor(positions) {
    this.positions = positions;
    let [left, right, bottom, top] = [Infinity, -Infinity, Infinity, -Infinity];
    for (let i = 0; i < positions.length; i += 2) {
      left = Math.min(left, positions[i]);
      right = Math.max(right, positions[i]);
      bottom = Math.min(bottom, positions[i + 1]);
      top = Math.max(top, positions[i + 1]);
    }
    this.left = left;
    this.bottom = bottom;
    this.step = Math.max(right - left, top - bottom, 1e-12) / CELLS;
    const count = positions.length / 2;
    this.next = new Int32Array(count).fill(-1);
    this.first = new Int32Array((CELLS + 1) ** 2).fill(-1);
    for (let number = 0; number < count; number += 1) {
      const cell = this.cell(positions[2 * number], positions[2 * number + 1]);
      this.next[number] = this.first[cell];
      this.first[cell] = number;
    }
  }

  /** @param {number} x @param {number} y */
  cell(x, y) {
    return Math.floor((y - this.bottom) / this.step) * (CELLS + 1) + Math.floor((x - this.left) / this.step);
  }

  /**
   * Return the number of the nearest point within `radius`, -1 for none.
   * @param {number} x @param {number} y @param {number} radius
   */
  nearest(x, y, radius) {
    let [best, least] = [-1, radius * radius];
    const columns = this.range(x - this.left, radius);
    const rows = this.range(y - this.bottom, radius);
    for (let row = rows[0]; row <= rows[1]; row += 1) {
      for (let column = columns[0]; column <= columns[1]; column += 1) {
        for (let number = this.first[row * (CELLS + 1) + column]; number >= 0; number = this.next[number]) {
          const gap = (this.positions[2 * number] - x) ** 2 + (this.positions[2 * number + 1] - y) ** 2;
          if (gap < least) [best, least] = [number, gap];
        }
      }
    }
    return best;
  }

  /** @param {number} middle @param {number} radius @returns {[number, number]} */
  range(middle, radius) {
    const bounded = (value) => Math.max(0, Math.min(CELLS, Math.floor(value / this.step)));
    return [bounded(middle - radius), bounded(middle + radius)];
  }
}

/**
 * Return the numbers of the points inside a polygon.
 * @param {Float32Array} positions
 * @param {[number, number][]} polygon
 */
export function inside(positions, polygon) {
  const xs = polygon.map(([x]) => x);
  const ys = polygon.map(([, y]) => y);
  const [left, right, bottom, top] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
  const numbers = [];
  for (let i = 0; i < positions.length; i += 2) {
    const [x, y] = [positions[i], positions[i + 1]];
    if (x >= left && x <= right && y >= bottom && y <= top && isInside(x, y, polygon)) numbers.push(i / 2);
  }
  return numbers;
}

/** By the number of edges to the right. @param {number} x @param {number} y @param {[number, number][]} polygon */
function isInside(x, y, polygon) {
  let isOdd = false;
  for (let i = 0, j = polygon.length - 1; i < polygon.length; j = i, i += 1) {
    const [[ax, ay], [bx, by]] = [polygon[i], polygon[j]];
    if (ay > y !== by > y && x < ((bx - ax) * (y - ay)) / (by - ay) + ax) isOdd = !isOdd;
  }
  return isOdd;
}
