// The controls. Only going to another frame talks to the server.

const WINDOW_PIXELS = 256; // a drag this long multiplies the width by 4, or moves the center by the width
const KEY_PIXELS = 16; // Shift with an arrow key counts as a drag this long
const MOVE = 40; // screen pixels that an arrow key moves the picture by

const SCROLLED = "shpeft-scrolled"; // what linked viewers tell each other

class Viewer {
  constructor(root) {
    this.root = root;
    this.find = (selector) => root.querySelector(selector);
    this.stage = new Stage(this.find("canvas"));
    this.marks = new Marks(this.find("svg"), this.stage);
    this.stage.onchange = () => this.report();
    this.image = null;
    this.slices = null;
    this.target = null; // the slice that the reader scrolled to, which may not be here yet
    this.follow = ({ detail }) => detail.viewer !== this && this.image?.linked && this.step(detail.by, false);
    window.addEventListener(SCROLLED, this.follow);
    this.listen();
  }

  /** Show the server's message; zoom and window stay as long as the image is the same. */
  update(image, send) {
    this.send = send;
    const before = this.image, same = before && before.image === image.image;
    if (!same) this.target = null;
    if (same && this.target !== null && image.frame !== this.target) {
      before.linked = image.linked;
      return; // the reader has scrolled on
    }
    if (!image.slices) this.slices = null;
    else if (this.slices?.address !== image.slices) this.slices = new Slices(image.slices, image.frames);
    this.image = image;
    this.find("canvas").style.aspectRatio = `${image.width} / ${image.height}`; // as tall as the map beside it
    const names = image.views.map((view, i) => new Option(view.name, i));
    this.find(".view").replaceChildren(...names, new Option("Other", "other", false, false));
    if (!same) {
      this.restore();
      this.stage.straighten();
    } else if (this.chosen !== null) this.view = image.views[this.chosen];
    this.find(".unit").textContent = image.unit;
    this.find(".frames").hidden = image.frames < 2;
    Object.assign(this.find(".frame"), { max: image.frames, value: image.frame + 1 });
    this.map(image.map, same && before.map);
    this.marks.show(image);
    this.repaint();
    if (!same) this.stage.fit();
    this.announce(`Frame ${image.frame + 1} of ${image.frames}`);
  }

  /** Restore the initial view: as the model sees it. */
  restore() {
    this.choose(0);
    this.inverted = false;
    this.find(`[value=${this.image.channels === 3 ? "move" : "window"}]`).checked = true; // colors have no window
    this.find("canvas").classList.toggle("moves", this.tool() === "move");
  }

  /** The tool of the left button. */
  tool() {
    return this.find("[name=drag]:checked").value;
  }

  /** Show the pixel and its value at a point of the screen. */
  probe(at) {
    const { image } = this;
    const [x, y] = at && image ? this.stage.toImage(...at).map(Math.floor) : [-1, -1];
    const inside = image && x >= 0 && y >= 0 && x < image.width && y < image.height;
    const values = inside ? [0, 1, 2].slice(0, image.channels).map((c) => valueAt(image, x, y, c)) : [];
    const shown = values.map((value) => (value === null ? "blank" : Number(value.toPrecision(7))));
    this.find(".probe").textContent = inside ? `${x}, ${y}: ${shown.join(" ")} ${image.unit}`.trim() : "";
  }

  choose(position) {
    this.chosen = position;
    this.view = this.image.views[position];
  }

  /** Take a new map; the image stays clean until the checkbox shows it. */
  map(map, before) {
    this.stage.cover(map);
    this.find(".map").hidden = !map;
    if (!map || !before) this.find(".overlay").checked = false;
    if (map) {
      this.find(".caption").textContent = map.caption;
      this.find(".ramp").style.background = `linear-gradient(to right, black, rgb(${map.color}))`;
    }
  }

  repaint() {
    paint(this.image, this.view, this.image.inverted !== this.inverted, this.stage.picture);
    this.stage.orient();
    this.redraw();
  }

  redraw() {
    this.stage.opacity = this.find(".overlay").checked ? this.find(".opacity").value / 100 : 0;
    this.stage.draw();
    this.report();
  }

  /** Update the controls, except a field that is being edited. */
  report() {
    if (!this.image) return;
    this.marks.draw();
    const percent = 100 * this.stage.scale;
    this.find(".zoom").textContent = `${percent < 10 ? percent.toFixed(1) : Math.round(percent)} %`;
    this.find(".number").textContent = `${this.image.frame + 1} of ${this.image.frames}`;
    this.find(".view").value = this.chosen === null ? "other" : this.chosen;
    this.find("[data-do=invert]").setAttribute("aria-pressed", this.inverted);
    const [center, width] = centerAndWidth(this.view);
    for (const [name, value] of [[".center", center], [".width", width]]) {
      const field = this.find(name);
      if (field !== this.root.activeElement) field.value = Number(value.toPrecision(6));
    }
  }

  announce(text) {
    this.find(".status").textContent = text;
  }

  /** Change the window; repaint once per animation frame, because a drag sends more events than that. */
  window(center, width) {
    const narrowest = this.view.integers ? 1 : 1e-4 * (this.image.views.at(-1).high - this.image.views.at(-1).low || 1);
    if (!Number.isFinite(center) || !(width >= narrowest)) return;
    this.view = withWindow(this.view, center, width);
    this.chosen = null;
    this.pending ??= requestAnimationFrame(() => {
      this.pending = undefined;
      this.repaint();
    });
  }

  drag(dx, dy) {
    const [center, width] = centerAndWidth(this.view);
    const rounded = (x) => (/int/.test(this.image.type) && width > 16 ? Math.round(x) : x);
    const wider = rounded(width * 4 ** (dx / WINDOW_PIXELS));
    this.window(rounded(center + (width * dy) / WINDOW_PIXELS), wider === width ? width + Math.sign(dx) : wider);
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
      right: () => stage.turn([0, -1, 1, 0]),
      left: () => stage.turn([0, 1, -1, 0]),
      mirror: () => stage.turn([-1, 0, 0, 1]),
      upside: () => stage.turn([1, 0, 0, -1]),
      clear: () => this.marks.clear(),
      full: () => (document.fullscreenElement ? document.exitFullscreen() : this.find(".viewer").requestFullscreen()),
      reset: () => {
        this.restore();
        stage.straighten();
        this.find(".opacity").value = 60;
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
        this.announce(`Zoom ${this.find(".zoom").textContent}${this.inverted ? ", inverted" : ""}`);
      }),
    );
    this.find(".view").addEventListener("change", ({ target }) => {
      if (target.value !== "other") this.choose(Number(target.value));
      this.repaint();
    });
    for (const name of [".center", ".width"]) {
      this.find(name).addEventListener("input", () =>
        this.window(this.find(".center").valueAsNumber, this.find(".width").valueAsNumber),
      );
      this.find(name).addEventListener("blur", () => this.report());
    }
    for (const name of [".overlay", ".opacity"]) this.find(name).addEventListener("input", () => this.redraw());
    this.root.querySelectorAll("[name=drag]").forEach((choice) =>
      choice.addEventListener("change", () => this.find("canvas").classList.toggle("moves", choice.value === "move")),
    );
    this.find(".frame").addEventListener("change", ({ target }) => this.go(target.valueAsNumber - 1));
    this.pointer = new Pointer(this, this.find("canvas"));
    this.find(".smooth").addEventListener("change", ({ target }) => {
      this.stage.smooth = target.checked;
      this.stage.draw();
    });
    this.find("canvas").addEventListener("keydown", (event) => this.key(event, acts));
  }

  /** Go on by some frames from the one that the reader went to last. */
  step(by, leads = true) {
    this.go((this.target ?? this.image.frame) + by, leads);
  }

  /** Go to a frame; a viewer that leads takes the linked ones along. */
  go(frame, leads = true) {
    const before = this.target ?? this.image.frame, target = Math.min(Math.max(frame, 0), this.image.frames - 1);
    if (target === before) return;
    if (leads && this.image.linked) {
      window.dispatchEvent(new CustomEvent(SCROLLED, { detail: { viewer: this, by: target - before } }));
    }
    if (this.slices) this.scroll(target, Math.sign(target - before));
    else this.send("frame", { image: this.image.image, frame: target });
  }

  /** Show a slice as soon as it is here, unless the reader is further by then; tell the page when they rest. */
  async scroll(target, direction) {
    const { slices, send } = this, { image, linked } = this.image;
    this.target = target;
    const slice = slices.get(target);
    slices.ahead(target, direction);
    clearTimeout(this.settling);
    this.settling = setTimeout(() => send("frame", { image, frame: target }), SETTLED);
    const shown = await slice.catch(() => null); // the page then says what is wrong
    if (shown && this.target === target && this.image.image === image) {
      this.update({ ...shown, slices: slices.address, linked }, this.send);
    }
  }

  key(event, acts) {
    const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const keys = {
      "+": "in", "-": "out", "=": "fit", 0: "fit", i: "invert", r: "right", l: "left", h: "mirror", v: "upside",
      " ": "reset", delete: "clear",
    };
    const turns = { PageUp: -1, PageDown: 1, ArrowUp: -1, ArrowDown: 1 };
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const name = event.key.toLowerCase();
    if (event.key in turns && !event.shiftKey && this.image.frames > 1) this.step(turns[event.key]);
    else if (event.key in arrows) {
      const [x, y] = arrows[event.key];
      if (event.shiftKey) this.drag(x * KEY_PIXELS, y * KEY_PIXELS);
      else this.stage.move(-x * MOVE, -y * MOVE);
    } else if (name in keys) acts[keys[name]]();
    else if (/^[1-9]$/.test(name) && this.image.views[name - 1]) {
      this.choose(name - 1);
      this.repaint();
    } else return;
    event.preventDefault();
    event.stopPropagation(); // Streamlit runs the page again on "r"
  }
}

const viewers = new WeakMap();

/** Streamlit calls this whenever the page is drawn, with the same parent element. */
export default function ({ data, parentElement, setStateValue }) {
  if (!viewers.has(parentElement)) viewers.set(parentElement, new Viewer(parentElement));
  const viewer = viewers.get(parentElement);
  viewer.update(unpack(data), setStateValue);
  return () => {
    viewer.stage.observer.disconnect();
    window.removeEventListener(SCROLLED, viewer.follow);
  };
}
