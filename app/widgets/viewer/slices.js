// The slices of a series, fetched ahead of the reader.

const AHEAD = 12; // slices in the direction of scrolling
const STORED = 96; // slices in memory: 48 MiB of a CT
const SETTLED = 400; // milliseconds without scrolling after which the page learns which slice is shown

class Slices {
  constructor(address, count) {
    this.address = address;
    this.count = count;
    this.fetched = new Map(); // promises by number, the latest last
  }

  /** Return a promise of a slice. */
  get(number) {
    const slice = this.fetched.get(number) ?? this.fetch(number);
    this.fetched.delete(number);
    this.fetched.set(number, slice);
    if (this.fetched.size > STORED) this.fetched.delete(this.fetched.keys().next().value);
    return slice;
  }

  async fetch(number) {
    try {
      const response = await fetch(this.address + number);
      if (!response.ok) throw new Error(await response.text());
      return unpack(new Uint8Array(await response.arrayBuffer()));
    } catch (error) {
      this.fetched.delete(number);
      throw error;
    }
  }

  /** Fetch what comes next in a direction, 1 or -1. */
  ahead(number, direction) {
    for (let i = 1; i <= AHEAD; i++) {
      const next = number + i * direction;
      if (next >= 0 && next < this.count) this.get(next).catch(() => {});
    }
  }
}
