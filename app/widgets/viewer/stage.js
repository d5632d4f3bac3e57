// The stage: the picture at a position and a scale, with the saliency map over it.

const LARGEST = 32; // screen pixels per image pixel
const STEP = 1.25; // zoom factor of one click or key press

class Stage {
  constructor(canvas) {
    this.canvas = canvas;
    this.picture = document.createElement("canvas");
    this.layer = document.createElement("canvas");
    this.smooth = false; // between pixels that are shown larger than the screen's
    this.turned = [document.createElement("canvas"), document.createElement("canvas")];
    this.straighten();
    this.opacity = 0;
    this.fits = true; // keep the whole image visible when the stage is resized
    this.scale = 1;
    this.x = this.y = 0; // the picture's corner, in screen pixels
    this.onchange = () => {};
    this.observer = new ResizeObserver(() => this.resize());
    this.observer.observe(canvas);
  }

  /** Match the canvas to the screen's pixels. */
  resize() {
    const ratio = window.devicePixelRatio || 1;
    const width = Math.round(this.canvas.clientWidth * ratio), height = Math.round(this.canvas.clientHeight * ratio);
    if (!width || !height) return;
    if (this.canvas.width !== width || this.canvas.height !== height) Object.assign(this.canvas, { width, height });
    this.fits ? this.fit() : this.moveTo(this.x, this.y);
  }

  fitting() {
    return Math.min(this.canvas.width / this.face.width, this.canvas.height / this.face.height, LARGEST);
  }

  fit() {
    this.scale = this.fitting();
    this.fits = true;
    this.moveTo(0, 0);
  }

  /** Zoom about the point (x, y) of the screen, by default the center. */
  zoom(scale, x = this.canvas.width / 2, y = this.canvas.height / 2) {
    const next = Math.min(Math.max(scale, Math.min(this.fitting(), 1)), LARGEST);
    const factor = next / this.scale;
    this.scale = next;
    this.fits = false;
    this.moveTo(x - (x - this.x) * factor, y - (y - this.y) * factor);
  }

  move(dx, dy) {
    this.fits = false;
    this.moveTo(this.x + dx, this.y + dy);
  }

  /** Put the picture's corner on a whole pixel of the screen; smaller pictures are centerd, larger ones leave no gap. */
  moveTo(x, y) {
    const within = (at, shown, room) => Math.round(shown <= room ? (room - shown) / 2 : Math.min(0, Math.max(at, room - shown)));
    this.x = within(x, this.face.width * this.scale, this.canvas.width);
    this.y = within(y, this.face.height * this.scale, this.canvas.height);
    this.draw();
    this.onchange();
  }

  /** Set the saliency map: height × width levels, each the opacity of one color. */
  cover(map) {
    Object.assign(this.layer, map ? { width: map.width, height: map.height } : { width: 0, height: 0 });
    if (!map) return this.orient();
    const image = new ImageData(map.width, map.height);
    map.levels.forEach((level, i) => image.data.set([...map.color, level], 4 * i));
    this.layer.getContext("2d").putImageData(image, 0, 0);
    this.orient();
  }

  /** Undo every turn and flip. */
  straighten() {
    this.matrix = [1, 0, 0, 1]; // from the image's axes to the screen's: x' = a x + b y, y' = c x + d y
    this.orient();
  }

  /** Turn or flip what is on the screen by a matrix of the same kind, such as [0, -1, 1, 0] for a right turn. */
  turn([a, b, c, d]) {
    const [e, f, g, h] = this.matrix;
    this.matrix = [a * e + b * g, a * f + b * h, c * e + d * g, c * f + d * h];
    this.orient();
    this.fit();
  }

  /** Turn picture and map as the matrix says; quarter turns and flips move pixels without changing any. */
  orient() {
    [this.face, this.cape] = [this.picture, this.layer].map((canvas, i) => {
      const [a, b, c, d] = this.matrix;
      if (a === 1 && d === 1) return canvas;
      const turned = this.turned[i];
      Object.assign(turned, b ? { width: canvas.height, height: canvas.width } : { width: canvas.width, height: canvas.height });
      if (!canvas.width) return turned;
      const context = turned.getContext("2d");
      context.setTransform(a, c, b, d, turned.width / 2, turned.height / 2);
      context.imageSmoothingEnabled = false;
      context.drawImage(canvas, -canvas.width / 2, -canvas.height / 2);
      return turned;
    });
  }

  /** From a point of the screen to the image's pixels, and back. */
  toImage(x, y) {
    const [a, b, c, d] = this.matrix;
    const [u, v] = [(x - this.x) / this.scale - this.face.width / 2, (y - this.y) / this.scale - this.face.height / 2];
    return [a * u + c * v + this.picture.width / 2, b * u + d * v + this.picture.height / 2];
  }

  toScreen(x, y) {
    const [a, b, c, d] = this.matrix;
    const [u, v] = [x - this.picture.width / 2, y - this.picture.height / 2];
    return [
      (a * u + b * v + this.face.width / 2) * this.scale + this.x,
      (c * u + d * v + this.face.height / 2) * this.scale + this.y,
    ];
  }

  draw() {
    const context = this.canvas.getContext("2d", { alpha: false });
    const { width, height } = this.face;
    context.globalAlpha = 1;
    context.fillStyle = "black";
    context.fillRect(0, 0, this.canvas.width, this.canvas.height);
    if (!width || !height) return;
    const frame = [this.x, this.y, width * this.scale, height * this.scale];
    context.imageSmoothingEnabled = this.smooth || this.scale < 1; // below 100 % average pixels; from 100 % on show them as squares
    context.imageSmoothingQuality = "high";
    context.drawImage(this.face, ...frame);
    if (!this.opacity || !this.layer.width) return;
    context.globalAlpha = this.opacity;
    context.imageSmoothingEnabled = true;
    context.drawImage(this.cape, ...frame);
  }
}
