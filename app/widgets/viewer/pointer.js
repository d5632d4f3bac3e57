// Mouse, touch and wheel, by the conventions of OHIF and Cornerstone: the left button has the chosen tool, at first the
// window; the right one zooms, the middle one moves, the wheel goes through the frames.

const LEFT = 1, RIGHT = 2, MIDDLE = 4; // of PointerEvent.buttons
const ZOOM_PIXELS = 100; // a drag this long doubles the scale
const WHEEL_PIXELS = 60; // of a wheel for one frame: one notch of a mouse is more, a touchpad sends less at a time

class Pointer {
  constructor(viewer, canvas) {
    this.viewer = viewer;
    this.canvas = canvas;
    this.points = new Map();
    this.turned = 0;
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    canvas.addEventListener("pointerdown", (event) => this.down(event));
    canvas.addEventListener("pointermove", (event) => this.move(event));
    canvas.addEventListener("pointerup", (event) => this.up(event));
    canvas.addEventListener("pointercancel", (event) => this.up(event));
    canvas.addEventListener("pointerleave", () => viewer.probe(null));
    canvas.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
  }

  /** A point of the canvas in the screen's pixels. */
  at(event) {
    const box = this.canvas.getBoundingClientRect(), ratio = window.devicePixelRatio || 1;
    return [(event.clientX - box.left) * ratio, (event.clientY - box.top) * ratio];
  }

  /** The tool of the pressed buttons; Shift moves with the left one. */
  tool(event) {
    if (event.buttons & MIDDLE) return "move";
    if (event.buttons & RIGHT) return "zoom";
    const chosen = this.viewer.tool();
    return event.shiftKey ? (chosen === "move" ? "window" : "move") : chosen;
  }

  down(event) {
    this.canvas.focus();
    this.canvas.setPointerCapture(event.pointerId);
    this.points.set(event.pointerId, this.at(event));
    this.began = this.last = this.at(event);
    this.used = this.points.size > 1 ? "pinch" : this.tool(event);
    if (this.used === "ruler" || this.used === "ellipse") this.viewer.marks.begin(this.used, ...this.began);
    event.preventDefault();
  }

  move(event) {
    const at = this.at(event);
    this.viewer.probe(at);
    if (!this.points.has(event.pointerId)) return;
    if (this.used === "pinch") return this.pinch(event.pointerId, at);
    this.points.set(event.pointerId, at);
    const ratio = window.devicePixelRatio || 1, { stage, marks } = this.viewer;
    const [dx, dy] = [at[0] - this.last[0], at[1] - this.last[1]];
    this.last = at;
    if (this.used === "window") this.viewer.drag(dx / ratio, dy / ratio);
    else if (this.used === "move") stage.move(dx, dy);
    else if (this.used === "zoom") stage.zoom(stage.scale * 2 ** (-dy / ratio / ZOOM_PIXELS), ...this.began);
    else marks.extend(...at);
  }

  /** Two fingers move and zoom. */
  pinch(id, at) {
    const between = () => {
      const [[x1, y1], [x2, y2]] = [...this.points.values()];
      return [(x1 + x2) / 2, (y1 + y2) / 2, Math.hypot(x2 - x1, y2 - y1)];
    };
    const [x, y, apart] = between();
    this.points.set(id, at);
    if (this.points.size !== 2) return;
    const [left, top, wide] = between(), { stage } = this.viewer;
    stage.move(left - x, top - y);
    if (apart) stage.zoom((stage.scale * wide) / apart, left, top);
  }

  up(event) {
    this.points.delete(event.pointerId);
    if (this.used === "ruler" || this.used === "ellipse") this.viewer.announce(this.viewer.marks.end());
    if (!this.points.size) this.used = null;
  }

  wheel(event) {
    if (this.viewer.root.activeElement !== this.canvas && !event.ctrlKey) return; // let the page scroll
    event.preventDefault();
    const { stage, image } = this.viewer;
    if (image.frames === 1 || event.ctrlKey) {
      return stage.zoom(stage.scale * (event.deltaY < 0 ? STEP : 1 / STEP), ...this.at(event));
    }
    this.turned += event.deltaY;
    const frames = Math.trunc(this.turned / WHEEL_PIXELS);
    if (!frames) return;
    this.turned = 0;
    this.viewer.step(Math.sign(frames));
  }
}
