// Marks over the picture: letters of the patient's directions, a scale bar, rulers and ellipses. Lengths are in mm
// where the file states a spacing, and else in pixels.

const SVG = "http://www.w3.org/2000/svg";
const LETTER_PIXELS = 15;
const CLICK = 3; // screen pixels; a shorter drag is no measurement

class Marks {
  constructor(svg, stage) {
    this.svg = svg;
    this.stage = stage;
    this.all = {}; // measurements of each frame, in the image's pixels
  }

  /** Show the marks of a frame. */
  show(image) {
    this.image = image;
    this.list = this.all[`${image.image}/${image.frame}`] ??= [];
    this.draw();
  }

  begin(kind, x, y) {
    const at = this.stage.toImage(x, y);
    this.list.push({ kind, from: at, to: at });
  }

  extend(x, y) {
    this.list.at(-1).to = this.stage.toImage(x, y);
    this.draw();
  }

  /** Finish the last measurement; return its result in words, or nothing if it was only a click. */
  end() {
    const mark = this.list.at(-1);
    const [from, to] = [this.stage.toScreen(...mark.from), this.stage.toScreen(...mark.to)];
    if (Math.hypot(to[0] - from[0], to[1] - from[1]) < CLICK) this.list.pop();
    this.draw();
    return this.list.includes(mark) ? this.result(mark) : "";
  }

  clear() {
    this.list.length = 0;
    this.draw();
  }

  /** Return a measurement in words: a length, or the area and the values inside an ellipse. */
  result({ kind, from, to }) {
    const [dy, dx] = this.image.spacing ?? [1, 1], unit = this.image.spacing ? "mm" : "pixels";
    const width = Math.abs(to[0] - from[0]) * dx, height = Math.abs(to[1] - from[1]) * dy;
    const where = this.image.spacing ? (this.image.detector ? " at the detector" : "") : ", no spacing";
    if (kind === "ruler") return `${Math.hypot(width, height).toFixed(1)} ${unit}${where}`;
    const area = `${((Math.PI / 4) * width * height).toFixed(1)} ${unit === "mm" ? "mm²" : unit}${where}`;
    const inside = this.inside(from, to);
    if (!inside.length) return area;
    const mean = inside.reduce((sum, value) => sum + value, 0) / inside.length;
    const deviation = Math.sqrt(inside.reduce((sum, value) => sum + (value - mean) ** 2, 0) / inside.length);
    const [low, high] = inside.reduce(([l, h], v) => [Math.min(l, v), Math.max(h, v)], [Infinity, -Infinity]);
    const shown = (value) => Number(value.toFixed(1));
    return `${area}; mean ${shown(mean)} ± ${shown(deviation)}, ${shown(low)} to ${shown(high)} ${this.image.unit}`.trim();
  }

  /** Return the values, in the file's units, of the gray pixels whose centers are inside an ellipse. */
  inside(from, to) {
    const { width, height, channels } = this.image, values = [];
    if (channels > 1) return values;
    const [x, y] = [(from[0] + to[0]) / 2, (from[1] + to[1]) / 2];
    const [a, b] = [Math.abs(to[0] - from[0]) / 2, Math.abs(to[1] - from[1]) / 2];
    for (let row = Math.max(0, Math.floor(y - b)); row < Math.min(height, y + b); row++) {
      for (let column = Math.max(0, Math.floor(x - a)); column < Math.min(width, x + a); column++) {
        const value = valueAt(this.image, column, row);
        if (((column + 0.5 - x) / a) ** 2 + ((row + 0.5 - y) / b) ** 2 <= 1 && value !== null) values.push(value);
      }
    }
    return values;
  }

  draw() {
    if (!this.image || !this.stage.canvas.width) return;
    const { width, height } = this.stage.canvas, ratio = window.devicePixelRatio || 1;
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.svg.style.fontSize = `${LETTER_PIXELS * ratio}px`;
    const parts = [...this.letters(width, height, ratio), ...this.scaleBar(width, height, ratio)];
    for (const mark of this.list) parts.push(...this.measurement(mark, ratio));
    this.svg.replaceChildren(...parts);
  }

  /** Letters of the patient's directions at the edges of the screen. */
  letters(width, height, ratio) {
    const [left, right, top, bottom] = this.image.edges, [a, b, c, d] = this.stage.matrix, gap = LETTER_PIXELS * ratio;
    const towards = (x, y) => (x ? (x > 0 ? right : left) : y > 0 ? bottom : top);
    const places = [
      [towards(a, b), width - gap, height / 2], [towards(-a, -b), gap, height / 2],
      [towards(c, d), width / 2, height - gap / 2], [towards(-c, -d), width / 2, 1.2 * gap],
    ];
    return places.filter(([letter]) => letter).map(([letter, x, y]) => text(letter, x, y, "letter"));
  }

  scaleBar(width, height, ratio) {
    const gap = LETTER_PIXELS * ratio, y = height - 0.7 * gap, spacing = this.image.spacing;
    if (!spacing) return [text("no spacing", gap, y, "scale")];
    const [a, b] = this.stage.matrix;
    const pixel = (a ? spacing[1] : spacing[0]) / this.stage.scale; // mm of a screen pixel along the screen's rows
    const room = (pixel * width) / 4, ten = 10 ** Math.floor(Math.log10(room));
    const length = [5, 2, 1].map((x) => x * ten).find((x) => x <= room);
    const name = `${Number(length.toPrecision(1))} mm${this.image.detector ? " at the detector" : ""}`;
    return [line(gap, y, gap + length / pixel, y, ratio), text(name, gap, y - 0.5 * gap, "scale")];
  }

  measurement(mark, ratio) {
    const [x1, y1] = this.stage.toScreen(...mark.from), [x2, y2] = this.stage.toScreen(...mark.to);
    const shape = mark.kind === "ruler" ? line(x1, y1, x2, y2, ratio) : ellipse(x1, y1, x2, y2, ratio);
    return [shape, text(this.result(mark), Math.max(x1, x2) + 6 * ratio, Math.max(y1, y2), "measured")];
  }
}

/** Return a gray pixel's value in the file's units, or null if it is blank or no number. */
function valueAt(image, column, row, channel = 0) {
  const stored = image.values[(row * image.width + column) * image.channels + channel];
  if (!Number.isFinite(stored) || (image.blank && stored >= image.blank[0] && stored <= image.blank[1])) return null;
  return image.slope === 1 && image.intercept === 0 ? stored : stored * image.slope + image.intercept;
}

function node(name, attributes, content = "") {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.textContent = content;
  return made;
}

const text = (content, x, y, kind) => node("text", { x, y, class: kind }, content);
const line = (x1, y1, x2, y2, ratio) => node("line", { x1, y1, x2, y2, "stroke-width": 2 * ratio });
const ellipse = (x1, y1, x2, y2, ratio) =>
  node("ellipse", {
    cx: (x1 + x2) / 2, cy: (y1 + y2) / 2, rx: Math.abs(x2 - x1) / 2, ry: Math.abs(y2 - y1) / 2, "stroke-width": 2 * ratio,
  });
