// The stage: the picture at a place and a scale, and the saliency map above it.

const LARGEST = 32; // screen pixels a pixel of the image
const STEP = 1.25; // one click or one key

class Stage {
  constructor(canvas) {
    this.canvas = canvas;
    this.picture = document.createElement("canvas");
    this.layer = document.createElement("canvas");
    this.opacity = 0;
    this.fits = true; // the whole image is shown, whatever the stage's size
    this.scale = 1;
    this.x = this.y = 0; // where the picture's corner is, in pixels of the screen
    this.onchange = () => {};
    this.observer = new ResizeObserver(() => this.resize());
    this.observer.observe(canvas);
  }

  /** As many pixels as the screen has there. */
  resize() {
    const ratio = window.devicePixelRatio || 1;
    const width = Math.round(this.canvas.clientWidth * ratio), height = Math.round(this.canvas.clientHeight * ratio);
    if (!width || !height) return;
    if (this.canvas.width !== width || this.canvas.height !== height) Object.assign(this.canvas, { width, height });
    this.fits ? this.fit() : this.place(this.x, this.y);
  }

  fitting() {
    return Math.min(this.canvas.width / this.picture.width, this.canvas.height / this.picture.height, LARGEST);
  }

  fit() {
    this.scale = this.fitting();
    this.fits = true;
    this.place(0, 0);
  }

  /** Zoom so that the point of the image under (x, y) of the screen stays there; the middle if none is given. */
  zoom(scale, x = this.canvas.width / 2, y = this.canvas.height / 2) {
    const next = Math.min(Math.max(scale, Math.min(this.fitting(), 1)), LARGEST);
    const factor = next / this.scale;
    this.scale = next;
    this.fits = false;
    this.place(x - (x - this.x) * factor, y - (y - this.y) * factor);
  }

  move(dx, dy) {
    this.fits = false;
    this.place(this.x + dx, this.y + dy);
  }

  /** Put the picture's corner on a whole pixel of the screen; smaller pictures are centred, larger ones leave no gap. */
  place(x, y) {
    const within = (at, shown, room) => Math.round(shown <= room ? (room - shown) / 2 : Math.min(0, Math.max(at, room - shown)));
    this.x = within(x, this.picture.width * this.scale, this.canvas.width);
    this.y = within(y, this.picture.height * this.scale, this.canvas.height);
    this.draw();
    this.onchange();
  }

  /** A map of side x side levels, each of them the strength of one colour. */
  cover(map) {
    this.layer.width = this.layer.height = map ? map.side : 0;
    if (!map) return;
    const image = new ImageData(map.side, map.side);
    map.levels.forEach((level, i) => image.data.set([...map.colour, level], 4 * i));
    this.layer.getContext("2d").putImageData(image, 0, 0);
  }

  draw() {
    const context = this.canvas.getContext("2d", { alpha: false });
    const { width, height } = this.picture;
    context.globalAlpha = 1;
    context.fillStyle = "black";
    context.fillRect(0, 0, this.canvas.width, this.canvas.height);
    if (!width || !height) return;
    const frame = [this.x, this.y, width * this.scale, height * this.scale];
    context.imageSmoothingEnabled = this.scale < 1; // from 100 % on a pixel is a square, below several make one
    context.imageSmoothingQuality = "high";
    context.drawImage(this.picture, ...frame);
    if (!this.opacity || !this.layer.width) return;
    context.globalAlpha = this.opacity;
    context.imageSmoothingEnabled = true;
    context.drawImage(this.layer, ...frame);
  }
}
