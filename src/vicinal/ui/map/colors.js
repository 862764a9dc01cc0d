/**
 * Colours of points: of categories, of numbers along a ramp, dimmed outside a selection.
 */

/** Told apart also by people who see fewer colours; the last is for all that is rarer. */
export const CATEGORIES = ["#e8590c", "#1f77d0", "#2b9348", "#c2255c", "#7048e8", "#b08900", "#0c8599", "#d6336c", "#5c940d", "#a0522d", "#4c6ef5", "#868e96"];
const RAMP = ["#3b2f80", "#31688e", "#21918c", "#5ec962", "#f2c811"];
export const OTHER = "#868e96";
export const NONE = "#adb5bd";
const PLAIN = "#e8590c";

/** @param {string} hex @returns {[number, number, number]} */
const channels = (hex) => /** @type {[number, number, number]} */ ([1, 3, 5].map((start) => Number.parseInt(hex.slice(start, start + 2), 16)));

/** @param {number} category */
export const ofCategory = (category) => (category < 0 ? OTHER : CATEGORIES[category % CATEGORIES.length]);

/** The ramp, for a legend. */
export const ramp = `linear-gradient(to right, ${RAMP.join(", ")})`;

const ramped = RAMP.map(channels);

/** @param {number} share from 0 to 1 @param {Uint8Array} target @param {number} offset */
function writeRamp(share, target, offset) {
  const place = Math.max(0, Math.min(1, share)) * (ramped.length - 1);
  const low = Math.min(Math.floor(place), ramped.length - 2);
  for (let channel = 0; channel < 3; channel += 1) {
    target[offset + channel] = ramped[low][channel] + (ramped[low + 1][channel] - ramped[low][channel]) * (place - low);
  }
}

/** The least and the greatest of numbers, NaN left out. @param {Float32Array} values */
export function range(values) {
  let [low, high] = [Infinity, -Infinity];
  for (const value of values) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return low <= high ? [low, high] : [0, 1];
}

/**
 * Return red, green, blue and opacity of each point.
 * @param {number} count
 * @param {{values: Float32Array | null, isCategories: boolean, isReversed?: boolean, selected: Set<number> | null}} shown
 */
export function colorsOf(count, { values, isCategories, isReversed = false, selected }) {
  const colors = new Uint8Array(4 * count);
  const palette = CATEGORIES.map(channels);
  const [plain, none, other] = [PLAIN, NONE, OTHER].map(channels);
  const [low, high] = values && !isCategories ? range(values) : [0, 1];
  for (let number = 0; number < count; number += 1) {
    const offset = 4 * number;
    const value = values?.[number];
    if (value === undefined) colors.set(plain, offset);
    else if (Number.isNaN(value)) colors.set(none, offset);
    else if (isCategories) colors.set(value < 0 ? other : palette[value % palette.length], offset);
    else {
      const share = (value - low) / (high - low || 1);
      writeRamp(isReversed ? 1 - share : share, colors, offset);
    }
    colors[offset + 3] = selected === null || selected.has(number) ? 215 : 40;
  }
  return colors;
}
