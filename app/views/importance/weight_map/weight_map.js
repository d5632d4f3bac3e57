// The model as its blocks and matrices, with the selected weights lit. Dragging the budget stays in the browser; the server
// hears of it when the slider is released, and of the matrix that is chosen.

const SCALES = [1.25, 3]; // CSS pixels per square root of a matrix's inputs or outputs: as large as one row allows
const FEW = 3; // blocks up to which each is a row of its matrices, which fills the page's width
const LABEL = 64; // CSS pixels beside such a row
const LARGEST_FEW = 5.5; // their largest scale
const LEAST = 8; // CSS pixels of the shortest side
const DOT = 2; // CSS pixels of a lit cell, at least

/** Read the message: a JSON header with its length, then where each step begins, the cells that it lights, and how far. */
function unpack(bytes) {
  const length = new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true);
  const map = JSON.parse(new TextDecoder().decode(bytes.subarray(4, 4 + length)));
  let at = 4 + length;
  const take = (Type, count) => {
    const values = new Type(bytes.slice(at, at + count * Type.BYTES_PER_ELEMENT).buffer); // a copy, for its alignment
    at += count * Type.BYTES_PER_ELEMENT;
    return values;
  };
  map.starts = take(Uint32Array, map.steps.length + 1);
  const lit = map.starts[map.steps.length];
  map.cells = take(Uint32Array, lit);
  map.counts = take(Uint32Array, lit);
  return map;
}

class WeightMap {
  constructor(root) {
    this.root = root;
    this.find = (selector) => root.querySelector(selector);
    this.slider = this.find(".budget");
    this.slider.addEventListener("input", () => this.show(Number(this.slider.value)));
    this.slider.addEventListener("change", () => {
      this.announce();
      this.send("budget", { run: this.map.run, k: this.map.steps[this.step] });
    });
    this.find(".blocks").addEventListener("keydown", (event) => this.key(event));
    // the theme changes colors, and the page the screen's resolution
    this.observer = new MutationObserver(() => this.map && this.show(this.step));
    this.observer.observe(document.documentElement, { attributes: true, attributeFilter: ["style", "class"] });
  }

  /** Show the server's message. The boxes stay as long as the matrices are the same. */
  update(map, send) {
    this.send = send;
    const same = this.map && JSON.stringify(this.map.matrices) === JSON.stringify(map.matrices);
    this.map = map;
    if (!same) this.build();
    this.slider.max = map.steps.length - 1;
    this.show(map.step);
    this.boxes.forEach((box, i) => box.setAttribute("aria-pressed", map.matrices[i].name === map.chosen));
  }

  build() {
    let first = 0;
    const blocks = new Map();
    this.few = new Set(this.map.matrices.map((matrix) => matrix.block)).size <= FEW;
    this.find(".blocks").classList.toggle("few", this.few);
    const scale = this.scale();
    this.boxes = this.map.matrices.map((matrix, i) => {
      matrix.first = first;
      first += matrix.down * matrix.across;
      const box = document.createElement("button");
      const side = (n) => `${Math.max(LEAST, Math.round(scale * Math.sqrt(n)))}px`;
      Object.assign(box.style, { width: side(matrix.columns), height: side(matrix.rows) });
      box.append(document.createElement("canvas"));
      box.tabIndex = i ? -1 : 0; // one stop for the Tab key; the arrow keys move between matrices
      box.addEventListener("click", () => this.send("matrix", { run: this.map.run, name: matrix.name }));
      for (const name of ["focus", "pointerenter"]) box.addEventListener(name, () => this.hint(i));
      if (!blocks.has(matrix.block)) blocks.set(matrix.block, []);
      blocks.get(matrix.block).push(box);
      return box;
    });
    this.columns = [...blocks.values()];
    this.firsts = Uint32Array.from(this.map.matrices, (matrix) => matrix.first);
    this.find(".blocks").replaceChildren(
      ...[...blocks].map(([name, boxes]) => {
        const block = document.createElement("div"), label = document.createElement("span");
        block.className = "block";
        label.className = "name";
        label.textContent = name.replace(/^blocks\./, "block ");
        block.append(label, ...boxes);
        return block;
      }),
    );
  }

  /** Return the scale at which all blocks, or all matrices of a block, fit into one row, within bounds. */
  scale() {
    if (this.few) {
      const rows = new Map();
      for (const { block, columns } of this.map.matrices)
        rows.set(block, [(rows.get(block)?.[0] ?? 0) + Math.sqrt(columns), (rows.get(block)?.[1] ?? 0) + 1]);
      const room = this.find(".blocks").clientWidth - LABEL;
      const fitting = Math.min(...[...rows.values()].map(([roots, count]) => (room - 8 * count) / roots));
      return Math.min(Math.max(fitting, SCALES[0]), LARGEST_FEW);
    }
    const widest = new Map();
    for (const { block, columns } of this.map.matrices)
      widest.set(block, Math.max(widest.get(block) ?? 0, Math.sqrt(columns)));
    const gaps = 14 * widest.size, roots = [...widest.values()].reduce((a, b) => a + b, 0);
    const fitting = (this.find(".blocks").clientWidth - gaps) / roots;
    return Math.min(Math.max(fitting, SCALES[0]), SCALES[1]);
  }

  /** Draw the selection of one step of the budget. */
  show(step) {
    const { matrices, steps, starts, cells, counts } = this.map;
    this.step = step;
    this.slider.value = step;
    const k = steps[step];
    const share = ((100 * k) / this.map.total).toPrecision(2);
    this.text = `${k.toLocaleString("en")} weights, ${Number(share)} %`;
    this.find(".shown").textContent = this.text;
    this.slider.setAttribute("aria-valuetext", this.text);
    const last = this.map.matrices.at(-1);
    const totals = new Uint32Array(last.first + last.down * last.across);
    for (let i = 0; i < starts[step + 1]; i++) totals[cells[i]] += counts[i];
    const most = Math.max(1, totals.reduce((a, b) => Math.max(a, b), 0));
    const style = getComputedStyle(this.root.querySelector(".weight-map"));
    const color = style.getPropertyValue("--st-primary-color") || style.color;
    matrices.forEach((matrix, i) => {
      const { down, across, first } = matrix;
      matrix.selected = totals.subarray(first, first + down * across).reduce((a, b) => a + b, 0);
      this.boxes[i].setAttribute("aria-label", this.describe(matrix));
      this.draw(this.boxes[i], totals.subarray(first, first + down * across), down, across, most, color);
    });
    if (this.hinted !== undefined) this.hint(this.hinted);
  }

  draw(box, totals, down, across, most, color) {
    const canvas = box.firstChild, ratio = window.devicePixelRatio || 1;
    const width = Math.round(parseFloat(box.style.width) * ratio), height = Math.round(parseFloat(box.style.height) * ratio);
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    const context = canvas.getContext("2d");
    context.clearRect(0, 0, width, height);
    context.fillStyle = color;
    const wide = Math.max(DOT * ratio, width / across), high = Math.max(DOT * ratio, height / down);
    totals.forEach((count, cell) => {
      if (!count) return;
      context.globalAlpha = 0.45 + (0.55 * Math.log1p(count)) / Math.log1p(most);
      const x = ((cell % across) * width) / across, y = (Math.floor(cell / across) * height) / down;
      context.fillRect(Math.min(x, width - wide), Math.min(y, height - high), wide, high);
    });
  }

  describe(matrix) {
    const short = matrix.name.replace(/\.weight$/, "");
    return `${short}: ${matrix.selected.toLocaleString("en")} of ${matrix.numel.toLocaleString("en")} weights selected`;
  }

  hint(i) {
    this.hinted = i;
    this.find(".hint").textContent = this.describe(this.map.matrices[i]);
  }

  announce() {
    const touched = this.map.matrices.filter((matrix) => matrix.selected).length;
    this.find("[role=status]").textContent = `${this.text}, in ${touched} of ${this.map.matrices.length} matrices`;
  }

  key(event) {
    const box = this.root.activeElement ?? document.activeElement;
    const column = this.columns.findIndex((boxes) => boxes.includes(box));
    if (column < 0 || event.ctrlKey || event.metaKey || event.altKey) return;
    const row = this.columns[column].indexOf(box);
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    if (!(event.key in moves)) return;
    event.preventDefault();
    const [across, along] = this.few ? moves[event.key].toReversed() : moves[event.key];
    const boxes = this.columns[Math.min(Math.max(column + across, 0), this.columns.length - 1)];
    const next = boxes[Math.min(Math.max(row + along, 0), boxes.length - 1)];
    this.boxes.forEach((other) => (other.tabIndex = other === next ? 0 : -1));
    next.focus();
  }
}

const maps = new WeakMap();

/** Streamlit calls this whenever the page is drawn, with the same parent element. */
export default function ({ data, parentElement, setTriggerValue }) {
  if (!maps.has(parentElement)) maps.set(parentElement, new WeightMap(parentElement));
  maps.get(parentElement).update(unpack(data), setTriggerValue);
}
