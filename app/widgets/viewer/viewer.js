// The controls. Nothing here talks to the server, but for a frame that is not in the browser.

const WINDOW_PIXELS = 256; // a drag this long doubles the width twice, or moves the centre by the width
const KEY_PIXELS = 16; // what an arrow with Shift is worth of it
const MOVE = 40; // pixels of the screen that an arrow moves the picture by

class Viewer {
  constructor(root) {
    this.root = root;
    this.find = (selector) => root.querySelector(selector);
    this.stage = new Stage(this.find("canvas"));
    this.stage.onchange = () => this.report();
    this.image = null;
    this.listen();
  }

  /** Take what the server sent; the reader's zoom and window stay while the image does. */
  update(image, tell) {
    this.tell = tell;
    const before = this.image, same = before && before.image === image.image;
    this.image = image;
    const names = image.views.map((view, i) => new Option(view.name, i));
    this.find(".view").replaceChildren(...names, new Option("Other", "other", false, false));
    if (!same) this.start();
    else if (this.chosen !== null) this.view = image.views[this.chosen];
    this.find(".unit").textContent = image.unit;
    this.find(".frames").hidden = image.frames < 2;
    Object.assign(this.find(".frame"), { max: image.frames, value: image.frame + 1 });
    this.map(image.map, same && before.map);
    this.repaint();
    if (!same) this.stage.fit();
    this.say(`Frame ${image.frame + 1} of ${image.frames}`);
  }

  /** As at the beginning: the whole image, as the model sees it. */
  start() {
    this.choose(0);
    this.inverted = false;
    const drag = this.image.type === "uint8" ? "move" : "window"; // 8 bits are seldom windowed
    this.find(`[value=${drag}]`).checked = true;
    this.find("canvas").classList.toggle("moves", drag === "move");
  }

  choose(position) {
    this.chosen = position;
    this.view = this.image.views[position];
  }

  /** A map that was asked for is shown; it can be hidden and shown again here. */
  map(map, before) {
    this.stage.cover(map);
    this.find(".map").hidden = !map;
    if (!map) this.find(".overlay").checked = false;
    else if (!before || before.name !== map.name) this.find(".overlay").checked = true;
    if (map) {
      this.find(".caption").textContent = map.caption;
      this.find(".ramp").style.background = `linear-gradient(to right, black, rgb(${map.colour}))`;
    }
  }

  repaint() {
    paint(this.image, this.view, this.image.inverted !== this.inverted, this.stage.picture);
    this.redraw();
  }

  redraw() {
    this.stage.opacity = this.find(".overlay").checked ? this.find(".opacity").value / 100 : 0;
    this.stage.draw();
    this.report();
  }

  /** The controls follow what is shown; a field that is being typed in is left alone. */
  report() {
    if (!this.image) return;
    const percent = 100 * this.stage.scale;
    this.find(".zoom").textContent = `${percent < 10 ? percent.toFixed(1) : Math.round(percent)} %`;
    this.find(".number").textContent = `${this.image.frame + 1} of ${this.image.frames}`;
    this.find(".view").value = this.chosen === null ? "other" : this.chosen;
    this.find("[data-do=invert]").setAttribute("aria-pressed", this.inverted);
    const [centre, width] = centreAndWidth(this.view);
    for (const [name, value] of [[".centre", centre], [".width", width]]) {
      const field = this.find(name);
      if (field !== this.root.activeElement) field.value = Number(value.toPrecision(6));
    }
  }

  say(words) {
    this.find(".said").textContent = words;
  }

  /** Another window, painted when the browser next draws: a drag tells of more moves than there are frames. */
  window(centre, width) {
    const narrowest = this.view.integers ? 1 : 1e-4 * (this.image.views.at(-1).high - this.image.views.at(-1).low || 1);
    if (!Number.isFinite(centre) || !(width >= narrowest)) return;
    this.view = withWindow(this.view, centre, width);
    this.chosen = null;
    this.pending ??= requestAnimationFrame(() => {
      this.pending = undefined;
      this.repaint();
    });
  }

  drag(dx, dy) {
    const [centre, width] = centreAndWidth(this.view);
    const rounded = (x) => (/int/.test(this.image.type) && width > 16 ? Math.round(x) : x);
    const wider = rounded(width * 4 ** (dx / WINDOW_PIXELS));
    this.window(rounded(centre + (width * dy) / WINDOW_PIXELS), wider === width ? width + Math.sign(dx) : wider);
  }

  actions() {
    const { stage } = this;
    return {
      out: () => stage.zoom(stage.scale / STEP),
      in: () => stage.zoom(stage.scale * STEP),
      fit: () => stage.fit(),
      actual: () => stage.zoom(1),
      invert: () => {
        this.inverted = !this.inverted;
        this.repaint();
      },
      reset: () => {
        this.start();
        this.find(".opacity").value = 50;
        this.repaint();
        stage.fit();
      },
    };
  }

  listen() {
    const acts = this.actions();
    this.root.querySelectorAll("[data-do]").forEach((button) =>
      button.addEventListener("click", () => {
        acts[button.dataset.do]();
        this.say(`Zoom ${this.find(".zoom").textContent}${this.inverted ? ", inverted" : ""}`);
      }),
    );
    this.find(".view").addEventListener("change", ({ target }) => {
      if (target.value !== "other") this.choose(Number(target.value));
      this.repaint();
    });
    for (const name of [".centre", ".width"]) {
      this.find(name).addEventListener("input", () =>
        this.window(this.find(".centre").valueAsNumber, this.find(".width").valueAsNumber),
      );
      this.find(name).addEventListener("blur", () => this.report());
    }
    for (const name of [".overlay", ".opacity"]) this.find(name).addEventListener("input", () => this.redraw());
    this.root.querySelectorAll("[name=drag]").forEach((choice) =>
      choice.addEventListener("change", () => this.find("canvas").classList.toggle("moves", choice.value === "move")),
    );
    this.find(".frame").addEventListener("change", ({ target }) => this.go(target.valueAsNumber - 1));
    this.point(this.find("canvas"));
    this.find("canvas").addEventListener("keydown", (event) => this.key(event, acts));
  }

  go(frame) {
    const wanted = Math.min(Math.max(frame, 0), this.image.frames - 1);
    if (wanted !== this.image.frame) this.tell("frame", { image: this.image.image, frame: wanted });
  }

  /** Dragging and the wheel. */
  point(canvas) {
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button > 1) return;
      canvas.focus();
      canvas.setPointerCapture(event.pointerId);
      [this.lastX, this.lastY] = [event.clientX, event.clientY];
      event.preventDefault();
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!canvas.hasPointerCapture(event.pointerId)) return;
      const dx = event.clientX - this.lastX, dy = event.clientY - this.lastY;
      [this.lastX, this.lastY] = [event.clientX, event.clientY];
      const other = event.shiftKey || event.buttons === 4;
      const ratio = window.devicePixelRatio || 1;
      if (this.find("[value=window]").checked !== other) this.drag(dx, dy);
      else this.stage.move(dx * ratio, dy * ratio);
    });
    const wheel = (event) => {
      if (this.root.activeElement !== canvas && !event.ctrlKey) return; // the page is to scroll past
      event.preventDefault();
      const ratio = window.devicePixelRatio || 1;
      const factor = event.deltaY < 0 ? STEP : 1 / STEP;
      this.stage.zoom(this.stage.scale * factor, event.offsetX * ratio, event.offsetY * ratio);
    };
    canvas.addEventListener("wheel", wheel, { passive: false });
  }

  key(event, acts) {
    const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const keys = { "+": "in", "=": "in", "-": "out", 0: "fit", 1: "actual", i: "invert", r: "reset" };
    const turns = { PageUp: -1, PageDown: 1 };
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key in arrows) {
      const [x, y] = arrows[event.key];
      if (event.shiftKey) this.drag(x * KEY_PIXELS, y * KEY_PIXELS);
      else this.stage.move(-x * MOVE, -y * MOVE);
    } else if (event.key.toLowerCase() in keys) acts[keys[event.key.toLowerCase()]]();
    else if (event.key in turns && this.image.frames > 1) this.go(this.image.frame + turns[event.key]);
    else return;
    event.preventDefault();
  }
}

const viewers = new WeakMap();

/** Streamlit calls this whenever the page is drawn; the place stays the same. */
export default function ({ data, parentElement, setStateValue }) {
  if (!viewers.has(parentElement)) viewers.set(parentElement, new Viewer(parentElement));
  const viewer = viewers.get(parentElement);
  viewer.update(unpack(data), setStateValue);
  return () => viewer.stage.observer.disconnect();
}
