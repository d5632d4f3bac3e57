// From stored values to gray levels: the arithmetic of shpeft.images, bit for bit.

const TYPES = {
  uint8: Uint8Array, int8: Int8Array, uint16: Uint16Array, int16: Int16Array, uint32: Uint32Array, int32: Int32Array,
  float32: Float32Array, float64: Float64Array,
};
const SMALLEST = 2.2250738585072014e-308; // the smallest normal double, as NumPy's finfo(float64).tiny
const STRIP = 1 << 20; // pixels painted at a time: a large image needs no second copy

/** Decode the server's message: the header, with `values` and, if there is a saliency map, `map.levels`. */
function unpack(bytes) {
  const length = new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true);
  const image = JSON.parse(new TextDecoder().decode(bytes.subarray(4, 4 + length)));
  const Values = TYPES[image.type];
  const offset = 4 + length;
  const size = image.width * image.height * image.channels * Values.BYTES_PER_ELEMENT;
  image.values = new Values(bytes.slice(offset, offset + size).buffer); // a copy, because typed arrays must be aligned
  if (image.map) image.map.levels = bytes.slice(offset + size, offset + size + image.map.width * image.map.height);
  return image;
}

/** Round halves to even, as NumPy does. */
function round(x) {
  const floor = Math.floor(x), rest = x - floor;
  return rest < 0.5 || (rest === 0.5 && floor % 2 === 0) ? floor : floor + 1;
}

/** Apply a view's table or sigmoid, if it has one, to a value in the file's units. */
function through(view, value) {
  if (view.table) {
    const { first, entries } = view.table;
    return entries[Math.min(Math.max(round(value) - first, 0), entries.length - 1)];
  }
  return view.sigmoid ? 1 / (1 + Math.exp((-4 * (value - view.sigmoid[0])) / view.sigmoid[1])) : value;
}

/** Return the function from a stored value to its gray level, 0 to 255. */
function shader(image, view, inverted) {
  const { slope, intercept, blank } = image;
  const range = Math.max(view.high - view.low, SMALLEST);
  return (stored) => {
    if (!Number.isFinite(stored) || (blank && stored >= blank[0] && stored <= blank[1])) return 0;
    const value = through(view, slope === 1 && intercept === 0 ? stored : stored * slope + intercept);
    if (!Number.isFinite(value)) return 0;
    const gray = round(255 * Math.min(Math.max((value - view.low) / range, 0), 1));
    return inverted ? 255 - gray : gray;
  };
}

let latest = { key: "", grays: null }; // slices of a series share it

/** Tabulate the gray levels of all values of a type of at most 16 bits, indexed by their bits. */
function lookup(image, view, inverted, shade) {
  const { type, slope, intercept, blank } = image, key = JSON.stringify([type, slope, intercept, blank, view, inverted]);
  if (key === latest.key) return latest.grays;
  const bits = 8 * image.values.BYTES_PER_ELEMENT, signed = type.startsWith("int"), grays = new Uint8Array(1 << bits);
  for (let i = 0; i < grays.length; i++) grays[i] = shade(signed ? (i << (32 - bits)) >> (32 - bits) : i);
  latest = { key, grays };
  return grays;
}

/** Paint the image on a canvas of its own size, one pixel per value. */
function paint(image, view, inverted, canvas) {
  const { width, height, values, channels } = image;
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d", { alpha: false });
  const shade = shader(image, view, inverted);
  const small = values.BYTES_PER_ELEMENT <= 2, grays = small ? lookup(image, view, inverted, shade) : null;
  const mask = small ? grays.length - 1 : 0;
  const rows = Math.max(1, Math.min(height, Math.floor(STRIP / width)));
  for (let top = 0; top < height; top += rows) {
    const strip = new ImageData(width, Math.min(rows, height - top));
    const data = strip.data;
    for (let to = 0, from = top * width * channels; to < data.length; to += 4, from += channels) {
      if (channels === 3) {
        for (let c = 0; c < 3; c++) data[to + c] = small ? grays[values[from + c] & mask] : shade(values[from + c]);
      } else {
        data[to] = data[to + 1] = data[to + 2] = small ? grays[values[from] & mask] : shade(values[from]);
      }
      data[to + 3] = 255;
    }
    context.putImageData(strip, 0, top);
  }
}

/** Return a view's window center and width. */
function centerAndWidth(view) {
  if (view.sigmoid) return view.sigmoid;
  if (view.table) return [view.table.first + (view.table.entries.length - 1) / 2, view.table.entries.length - 1];
  const extra = view.integers ? 1 : 0; // DICOM PS3.3 C.11.2.1.2.1 counts both ends
  return [(view.low + view.high + extra) / 2, view.high - view.low + extra];
}

/** Return a view of the same kind with another center and width; a table becomes a linear view. */
function withWindow(view, center, width) {
  if (view.sigmoid) return { ...view, sigmoid: [center, width] };
  if (view.integers) {
    const half = (width - 1) / 2;
    return { low: center - 0.5 - half, high: center - 0.5 + half, integers: true };
  }
  return { low: center - width / 2, high: center + width / 2 };
}
