/**
 * Points drawn by WebGL2: positions and colours are given to the graphics card once, and each frame
 * is one call. No code is made at run time, so a strict policy lets it be.
 */

const VERTEX = `#version 300 es
uniform vec2 middle;
uniform vec2 scale;
uniform float size;
in vec2 position;
in vec4 color;
out vec4 shade;
void main() {
  gl_Position = vec4((position - middle) * scale, 0.0, 1.0);
  gl_PointSize = color.a > 0.5 ? size : size * 0.7;
  shade = color;
}`;

const FRAGMENT = `#version 300 es
precision mediump float;
in vec4 shade;
out vec4 result;
void main() {
  float away = length(gl_PointCoord - 0.5) * 2.0;
  float cover = shade.a * (1.0 - smoothstep(0.75, 1.0, away));
  result = vec4(shade.rgb * cover, cover);
}`;

/** @param {WebGL2RenderingContext} gl @param {number} type @param {string} source */
function shader(gl, type, source) {
  const made = /** @type {WebGLShader} */ (gl.createShader(type));
  gl.shaderSource(made, source);
  gl.compileShader(made);
  return made;
}

export class Points {
  /**
   * @param {HTMLCanvasElement} canvas
   * @throws {Error} the browser has no WebGL2
   */
  constructor(canvas) {
    const gl = canvas.getContext("webgl2", { antialias: false, premultipliedAlpha: true });
    if (!gl) throw new Error("This browser cannot draw the map: it has no WebGL2.");
    const program = gl.createProgram();
    gl.attachShader(program, shader(gl, gl.VERTEX_SHADER, VERTEX));
    gl.attachShader(program, shader(gl, gl.FRAGMENT_SHADER, FRAGMENT));
    gl.linkProgram(program);
    if (!gl.getProgramParameter(program, gl.LINK_STATUS)) throw new Error(`The map cannot be drawn: ${gl.getProgramInfoLog(program)}`);
    gl.useProgram(program);
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
    this.gl = gl;
    this.canvas = canvas;
    this.count = 0;
    this.positions = this.attribute(program, "position", 2, gl.FLOAT, 8);
    this.colors = this.attribute(program, "color", 4, gl.UNSIGNED_BYTE, 4);
    this.middle = gl.getUniformLocation(program, "middle");
    this.scale = gl.getUniformLocation(program, "scale");
    this.size = gl.getUniformLocation(program, "size");
  }

  /** @param {WebGLProgram} program @param {string} name @param {number} parts @param {number} type @param {number} bytes of a point */
  attribute(program, name, parts, type, bytes) {
    const { gl } = this;
    const location = gl.getAttribLocation(program, name);
    gl.enableVertexAttribArray(location);
    return { buffer: gl.createBuffer(), location, parts, type, bytes };
  }

  /** @param {Float32Array} positions x and y of each point in turn */
  setPositions(positions) {
    this.gl.bindBuffer(this.gl.ARRAY_BUFFER, this.positions.buffer);
    this.gl.bufferData(this.gl.ARRAY_BUFFER, positions, this.gl.STATIC_DRAW);
    this.count = positions.length / 2;
  }

  /** @param {Uint8Array} colors red, green, blue and opacity of each point in turn */
  setColors(colors) {
    this.gl.bindBuffer(this.gl.ARRAY_BUFFER, this.colors.buffer);
    this.gl.bufferData(this.gl.ARRAY_BUFFER, colors, this.gl.DYNAMIC_DRAW);
  }

  /**
   * @param {import("./view.js").View} view
   * @param {import("./view.js").Size} size
   * @param {number} pointSize in pixels of the sheet
   * @param {number} step draws the first of every `step` points
   */
  draw(view, size, pointSize, step) {
    const { gl, canvas } = this;
    const [width, height] = [Math.round(size.width * devicePixelRatio), Math.round(size.height * devicePixelRatio)];
    if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
    gl.viewport(0, 0, width, height);
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT);
    gl.uniform2f(this.middle, view.x, view.y);
    gl.uniform2f(this.scale, (2 * view.zoom) / size.width, (2 * view.zoom) / size.height);
    gl.uniform1f(this.size, pointSize * devicePixelRatio);
    for (const { buffer, location, parts, type, bytes } of [this.positions, this.colors]) {
      gl.bindBuffer(gl.ARRAY_BUFFER, buffer);
      gl.vertexAttribPointer(location, parts, type, type === gl.UNSIGNED_BYTE, step * bytes, 0);
    }
    gl.drawArrays(gl.POINTS, 0, Math.ceil(this.count / step));
  }

  close() {
    this.gl.getExtension("WEBGL_lose_context")?.loseContext();
  }
}
