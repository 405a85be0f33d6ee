/**
 * A photo with its saliency maps: in a page, in a live page, in a notebook.
 *
 * `mount(element, feed)` builds the viewer. Everything is drawn here; nothing is asked of a server.
 * The feed is what `chiaroscuro.viewer.make_feed` makes; its types are in types.d.ts.
 */

/** @import {Box, Color, Feed, FeedMap, FeedTarget, Helps} from "./types.d.ts" */
/** @import {Model, Paint, Place, Point, State, Viewer} from "./types.d.ts" */

/** The event that an element with a viewer fires when a person changes the state. */
export const CHANGE = "chiaroscuro-change";
const [TIE, OTHER] = [65535, 65534];
const LEVELS = 4095; // of the codes of a map
const STEPS = 1023; // of color, from zero to the limit
const NEAR = 8; // canvas pixels from which a pixel of a map has hard edges, smoothed or not
const MINUS = "\u2212";
const EVERYTHING = { zoom: 1, x: 0.5, y: 0.5 };

// Numbers

/** @type {(value: number, low: number, high: number) => number} */
const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

/** @type {(value: number) => string} */
const short = (value) => String(Number(value.toPrecision(2))).replaceAll("-", MINUS);

/** The first of a class's names. @type {(label: string) => string} */
const firstName = (label) => label.split(",")[0];

/** @type {(share: number) => string} */
function percent(share) {
  if (share > 0 && share < 0.001) return "< 0.1 %";
  return share > 0.9995 && share < 1 ? "> 99.9 %" : `${(100 * share).toFixed(1)} %`;
}

/**
 * A map under a Gaussian, cut at 4 sigma; near an edge the weights inside sum to 1.
 * @type {(values: Float32Array, width: number, height: number, sigma: number) => Float32Array}
 */
export function smooth(values, width, height, sigma) {
  if (sigma <= 0) return values;
  return blurRows(blurRows(values, width, height, sigma), height, width, sigma);
}

/**
 * Every row blurred; the result is transposed, so that twice is both axes.
 * @type {(values: Float32Array, width: number, height: number, sigma: number) => Float32Array}
 */
function blurRows(values, width, height, sigma) {
  const reach = Math.min(Math.floor(4 * sigma + 0.5), width - 1);
  const weights = Array.from({ length: reach + 1 }, (_, k) => Math.exp(-0.5 * (k / sigma) ** 2));
  const inside = new Float64Array(width);
  for (let x = 0; x < width; x++) {
    for (let k = Math.max(-reach, -x); k <= Math.min(reach, width - 1 - x); k++) inside[x] += weights[Math.abs(k)];
  }
  const row = new Float64Array(width + 2 * reach);
  const result = new Float32Array(values.length);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) row[reach + x] = values[y * width + x];
    for (let x = 0; x < width; x++) {
      const middle = reach + x;
      let sum = weights[0] * row[middle];
      for (let k = 1; k <= reach; k++) sum += weights[k] * (row[middle - k] + row[middle + k]);
      result[x * height + y] = sum / inside[x];
    }
  }
  return result;
}

/**
 * The k-th largest magnitude, k from 1, by counting: magnitudes sort as the bits of their floats do.
 * @type {(values: Float32Array, k: number) => number}
 */
export function kthLargest(values, k) {
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  /** @type {(counts: Uint32Array) => number} */
  const find = (counts) => {
    let bin = counts.length - 1;
    while (bin > 0 && k > counts[bin]) k -= counts[bin--];
    return bin;
  };
  const high = new Uint32Array(1 << 15);
  for (const b of bits) high[(b >>> 16) & 0x7fff]++;
  const first = find(high);
  const low = new Uint32Array(1 << 16);
  for (const b of bits) if (((b >>> 16) & 0x7fff) === first) low[b & 0xffff]++;
  return new Float32Array(Uint32Array.of((first << 16) | find(low)).buffer)[0];
}

/**
 * A quantile of the magnitudes that are not zero, interpolated; 0 for an empty map.
 * @type {(values: Float32Array, share: number) => number}
 */
export function quantile(values, share) {
  let count = 0;
  for (const value of values) if (value !== 0) count++;
  if (count === 0) return 0;
  const place = share * (count - 1);
  const below = Math.floor(place);
  const low = kthLargest(values, count - below);
  const high = below + 1 < count ? kthLargest(values, count - below - 1) : low;
  return low + (place - below) * (high - low);
}

/**
 * The least magnitude of the largest values, `top` percent of the pixels.
 * @type {(values: Float32Array, top: number) => number}
 */
function threshold(values, top) {
  if (top >= 100) return 0;
  const count = Math.round((top / 100) * values.length);
  return count === 0 ? Infinity : kthLargest(values, count);
}

// Colors

/** @type {(color: Color) => string} */
const css = (color) => `rgb(${color.join(", ")})`;

/** A color as one number of a picture's memory. @type {(color: Color, alpha?: number) => number} */
const packed = ([r, g, b], alpha = 255) => ((alpha << 24) | (b << 16) | (g << 8) | r) >>> 0;

/** The color of a ramp at a share in [0, 1]. @type {(stops: Color[], share: number) => Color} */
function ramp(stops, share) {
  const place = share * (stops.length - 1);
  const first = Math.min(Math.floor(place), stops.length - 2);
  const mixed = stops[first].map((c, k) => Math.round(c + (place - first) * (stops[first + 1][k] - c)));
  return /** @type {Color} */ (mixed);
}

/** Which change helps the class where a map has a value. @type {(map: FeedMap, value: number) => Helps} */
const helpsAt = ({ kind, helps }, value) => {
  if (kind === "magnitude") return helps;
  const [less, more] = signsOf(kind);
  return value < 0 ? less : more;
};

/** What values below and above zero show. @type {(kind: FeedMap["kind"]) => [Helps, Helps]} */
const signsOf = (kind) => (kind === "regions" ? ["opposes", "supports"] : ["darker", "brighter"]);

/**
 * Colors of the shares -1 to 1 of the limit; over a photo, a hue that covers it by the share.
 * @type {(colors: Feed["colors"], map: FeedMap, over: boolean) => Uint32Array}
 */
function colorTable(colors, map, over) {
  return Uint32Array.from({ length: 2 * STEPS + 1 }, (_, place) => {
    const share = Math.abs(place - STEPS) / STEPS;
    const helps = helpsAt(map, place - STEPS);
    if (over) return packed(colors.hues[helps], Math.round(255 * share));
    return packed(ramp(colors.ramps[helps], share));
  });
}

// Maps

/** @type {(width: number, height: number) => CanvasRenderingContext2D} */
function newCanvas(width, height) {
  return context2d(Object.assign(document.createElement("canvas"), { width, height }));
}

/** @type {(canvas: HTMLCanvasElement) => CanvasRenderingContext2D} */
function context2d(canvas) {
  const context = canvas.getContext("2d");
  if (!context) throw new Error("this browser draws no canvas");
  return context;
}

/** @type {(text: string) => Promise<ArrayBuffer>} */
function unpacked(text) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"))).arrayBuffer();
}

/** One map: its numbers, and a small canvas with its picture. */
class Layer {
  /** @param {Feed} feed @param {FeedTarget} target @param {FeedMap} map @param {ArrayBuffer} codes */
  constructor(feed, target, map, codes) {
    this.feed = feed;
    this.target = target;
    this.map = map;
    this.isClass = map.kind === "class";
    this.isFlat = this.isClass || map.kind === "regions"; // of areas with one value: never smoothed
    this.classes = new Uint16Array(codes);
    /** @type {Float32Array} */
    this.raw = map.regions.length
      ? Float32Array.from(this.classes, (n) => map.regions[n]?.value ?? 0)
      : Float32Array.from(new Int16Array(codes), (q) => Math.sign(q) * map.peak * (q / LEVELS) ** 2);
    this.shown = { sigma: 0, values: this.raw };
    /** @type {Map<number, number>} */
    this.limits = new Map();
    this.tables = [colorTable(feed.colors, map, false), colorTable(feed.colors, map, true)];
    this.context = newCanvas(map.width, map.height);
    this.painted = "";
  }

  /** @param {number} sigma */
  values(sigma) {
    if (this.isFlat) return this.raw;
    if (sigma !== this.shown.sigma) {
      this.shown = { sigma, values: smooth(this.raw, this.map.width, this.map.height, sigma) };
    }
    return this.shown.values;
  }

  /** The map's own color limit. @param {number} sigma */
  limit(sigma) {
    const limit = this.limits.get(sigma) ?? quantile(this.values(sigma), this.feed.clip);
    this.limits.set(sigma, limit);
    return limit;
  }

  /** Paint the small canvas, unless it shows just that. @param {Paint} paint */
  paint(paint) {
    const key = this.isClass ? String(paint.over) : JSON.stringify(paint);
    if (key === this.painted) return;
    this.painted = key;
    const picture = this.context.createImageData(this.map.width, this.map.height);
    const pixels = new Uint32Array(picture.data.buffer);
    if (this.isClass) this.paintClasses(pixels, paint.over);
    else this.paintValues(pixels, paint);
    this.context.putImageData(picture, 0, 0);
  }

  /** @param {Uint32Array} pixels @param {Paint} paint */
  paintValues(pixels, { sigma, top, limit, over }) {
    const values = this.values(sigma);
    const table = this.tables[Number(over)];
    const least = threshold(values, top);
    const scale = limit > 0 ? STEPS / limit : 0;
    for (let i = 0; i < values.length; i++) {
      const step = Math.abs(values[i]) < least ? 0 : Math.round(values[i] * scale);
      pixels[i] = table[STEPS + clamp(step, -STEPS, STEPS)];
    }
  }

  /** @param {Uint32Array} pixels @param {boolean} over */
  paintClasses(pixels, over) {
    const { other, zero } = this.feed.colors;
    const alpha = over ? 150 : 255;
    const own = this.map.classes.map(({ color }) => packed(color, alpha));
    const rest = new Map([[OTHER, packed(other, alpha)], [TIE, packed(zero, over ? 0 : 255)]]);
    this.classes.forEach((code, i) => (pixels[i] = own[code] ?? rest.get(code)));
  }

  /** The classes of a class map with their colors and shares of the pixels. @returns {[string, Color, number][]} */
  rows() {
    const { other, zero } = this.feed.colors;
    const counts = new Map();
    for (const code of this.classes) counts.set(code, (counts.get(code) ?? 0) + 1);
    /** @type {(code: number) => number} */
    const share = (code) => (counts.get(code) ?? 0) / this.classes.length;
    /** @type {[string, Color, number][]} */
    const own = this.map.classes.map(({ label, color }, code) => [label, color, share(code)]);
    return [...own, ["other classes", other, share(OTHER)], ["a tie", zero, share(TIE)]];
  }

  /** What a pixel says, in words. @param {number} x @param {number} y @param {number} sigma */
  describe(x, y, sigma) {
    const { name, classes, width } = this.map;
    const place = y * width + x;
    if (this.isClass) {
      const code = this.classes[place];
      return `${name}: ${code === TIE ? "a tie" : (classes[code]?.label ?? "another class")}`;
    }
    const region = this.map.regions[this.classes[place]];
    if (region) return `${name}: ${region.says}`;
    const values = this.values(sigma);
    const value = values[place];
    if (value === 0) return `${name} 0: no effect shown`;
    let rank = 1;
    for (const other of values) if (Math.abs(other) > Math.abs(value)) rank++;
    const helps = helpsAt(this.map, value);
    const sign = this.map.kind !== "magnitude" && value > 0 ? "+" : "";
    const says = helps === "either" ? "moves" : `${helps} helps`;
    const strength = `in the top ${percent(rank / values.length)}`;
    return `${name} ${sign}${short(value)}: ${says} ${firstName(this.target.label)}, ${strength}`;
  }
}

// Scene

/** @type {(at: Place, box: Box) => [number, number, number, number]} */
function boxOn(at, { left, top, right, bottom }) {
  return [at.dx + left * at.scale, at.dy + top * at.scale, (right - left) * at.scale, (bottom - top) * at.scale];
}

/** The photo and every crop box together: a padded photo has a larger box. @type {(feed: Feed) => Box} */
function worldOf({ photo, targets }) {
  const boxes = [{ left: 0, top: 0, right: photo.width, bottom: photo.height }, ...targets.map(({ crop }) => crop)];
  return {
    left: Math.min(...boxes.map((box) => box.left)),
    top: Math.min(...boxes.map((box) => box.top)),
    right: Math.max(...boxes.map((box) => box.right)),
    bottom: Math.max(...boxes.map((box) => box.bottom)),
  };
}

/** A decoded feed, which draws itself for a state on any canvas. */
class Scene {
  /** @param {Feed} feed @param {HTMLImageElement} photo @param {Layer[][]} layers */
  constructor(feed, photo, layers) {
    this.feed = feed;
    this.photo = photo;
    this.layers = layers;
    this.world = worldOf(feed);
    this.width = this.world.right - this.world.left;
    this.height = this.world.bottom - this.world.top;
    /** @type {HTMLCanvasElement | null} */
    this.gray = null;
    /** @type {Map<boolean, {key: string, context: CanvasRenderingContext2D}>} */
    this.grounds = new Map();
  }

  /** @param {Feed} feed */
  static async from(feed) {
    const photo = Object.assign(new Image(), { src: feed.photo.uri });
    /** @param {FeedTarget} target */
    const layersOf = (target) =>
      Promise.all(target.maps.map(async (map) => new Layer(feed, target, map, await unpacked(map.data))));
    const [layers] = await Promise.all([Promise.all(feed.targets.map(layersOf)), photo.decode()]);
    return new Scene(feed, photo, layers);
  }

  /** The left or only map, and the right one; null is the photo. @param {State} state */
  sides({ view, target, map, otherTarget, otherMap }) {
    /** @type {(n: number, name: string) => Layer | null} */
    const layer = (n, name) => this.layers[n].find((entry) => entry.map.name === name) ?? null;
    return view === "split" ? [layer(target, map), layer(otherTarget, otherMap)] : [layer(target, map)];
  }

  /** @param {Layer} layer @param {State} state */
  limit(layer, { limits, smoothing }) {
    if (limits === "given" && layer.map.limits) {
      const [fine, soft] = layer.map.limits;
      return fine + clamp(smoothing / layer.target.smoothing, 0, 1) * (soft - fine);
    }
    if (limits !== "same" || layer.map.kind === "regions") return layer.limit(smoothing);
    const measured = this.layers.flat().filter(({ map }) => map.kind === "magnitude" || map.kind === "signed");
    return Math.max(...measured.map((entry) => entry.limit(smoothing)));
  }

  /** @param {number} width @param {number} height */
  fit(width, height) {
    return Math.min(width / this.width, height / this.height);
  }

  /** Up to 48 canvas pixels for one of the photo. @param {number} fit */
  zoomMax(fit) {
    return Math.max(8, 48 / fit);
  }

  /** @param {State} state @param {number} width @param {number} height @returns {Place} */
  place({ zoom, x, y }, width, height) {
    const fit = this.fit(width, height);
    const scale = fit * Math.min(zoom, this.zoomMax(fit));
    /** @type {(room: number, length: number, middle: number) => number} */
    const start = (room, length, middle) =>
      length <= room ? (room - length) / 2 : clamp(room / 2 - middle * length, room - length, 0);
    return {
      scale,
      dx: start(width, this.width * scale, x) - this.world.left * scale,
      dy: start(height, this.height * scale, y) - this.world.top * scale,
    };
  }

  /** The photo in the gray that lies below maps. */
  grayPhoto() {
    if (this.gray) return this.gray;
    const { gray, luma } = this.feed.colors;
    const context = newCanvas(this.photo.naturalWidth, this.photo.naturalHeight);
    context.drawImage(this.photo, 0, 0);
    const picture = context.getImageData(0, 0, context.canvas.width, context.canvas.height);
    const { data } = picture;
    for (let i = 0; i < data.length; i += 4) {
      const light = (luma[0] * data[i] + luma[1] * data[i + 1] + luma[2] * data[i + 2]) / 255;
      data[i] = data[i + 1] = data[i + 2] = Math.round(gray[0] + gray[1] * light);
    }
    context.putImageData(picture, 0, 0);
    this.gray = context.canvas;
    return this.gray;
  }

  /**
   * The photo, faded outside the crop box.
   * @param {CanvasRenderingContext2D} context @param {Place} at @param {boolean} isGray @param {Box} crop
   */
  drawPhoto(context, at, isGray, crop) {
    const { width, height } = this.feed.photo;
    const whole = boxOn(at, { left: 0, top: 0, right: width, bottom: height });
    context.imageSmoothingEnabled = whole[2] / this.photo.naturalWidth < 3;
    context.imageSmoothingQuality = "high";
    context.drawImage(isGray ? this.grayPhoto() : this.photo, ...whole);
    const outside = new Path2D();
    outside.rect(...whole);
    outside.rect(...boxOn(at, crop));
    context.save();
    context.clip(outside, "evenodd");
    context.fillStyle = "rgba(14, 16, 20, 0.5)";
    context.fillRect(...whole);
    context.restore();
  }

  /**
   * `drawPhoto`, kept while only the map changes.
   * @param {CanvasRenderingContext2D} context @param {Place} at @param {boolean} isGray @param {Box} crop
   */
  drawGround(context, at, isGray, crop) {
    const { width, height } = context.canvas;
    const key = JSON.stringify([width, height, at, crop]);
    let ground = this.grounds.get(isGray);
    if (ground?.key !== key) {
      ground = { key, context: newCanvas(width, height) };
      this.drawPhoto(ground.context, at, isGray, crop);
      this.grounds.set(isGray, ground);
    }
    context.drawImage(ground.context.canvas, 0, 0);
  }

  /** @param {CanvasRenderingContext2D} context @param {Place} at @param {Layer} layer @param {State} state */
  drawMap(context, at, layer, state) {
    const over = state.view !== "map";
    const limit = layer.isClass ? 0 : this.limit(layer, state);
    layer.paint({ sigma: state.smoothing, top: state.top, limit, over });
    const box = boxOn(at, layer.target.crop);
    const soft = state.smoothing > 0 && !layer.isFlat;
    context.imageSmoothingEnabled = box[2] / layer.map.width < (soft ? NEAR : 1);
    context.globalAlpha = over ? state.opacity : 1;
    context.drawImage(layer.context.canvas, ...box);
    context.globalAlpha = 1;
  }

  /** The line around the region of a target. @param {CanvasRenderingContext2D} context @param {Place} at @param {string} outline */
  drawOutline(context, at, outline) {
    const line = new Path2D();
    line.addPath(new Path2D(outline), new DOMMatrix([at.scale, 0, 0, at.scale, at.dx, at.dy]));
    for (const [width, color] of /** @type {[number, string][]} */ ([[4, "#fff"], [2, "rgb(255, 0, 170)"]])) {
      Object.assign(context, { lineWidth: width, strokeStyle: color, lineCap: "square" });
      context.stroke(line);
    }
  }

  /**
   * Everything, on the screen's canvas or on that of a download; `middle` is where the divider is.
   * @param {CanvasRenderingContext2D} context @param {State} state @param {Place} at @param {number} middle
   * @param {boolean} keep Whether the photo as drawn here will be wanted again.
   */
  draw(context, state, at, middle, keep) {
    const { width, height } = context.canvas;
    context.clearRect(0, 0, width, height);
    const sides = this.sides(state);
    sides.forEach((layer, side) => {
      const map = state.view === "photo" ? null : layer;
      const { crop, outline } = (layer ?? sides[0])?.target ?? this.feed.targets[0];
      context.save();
      context.beginPath();
      context.rect(side * middle, 0, sides.length === 1 ? width : side ? width - middle : middle, height);
      context.clip();
      if (state.view !== "map") {
        const isGray = state.gray && map !== null;
        if (keep) this.drawGround(context, at, isGray, crop);
        else this.drawPhoto(context, at, isGray, crop);
      }
      if (map) this.drawMap(context, at, map, state);
      if (outline) this.drawOutline(context, at, outline);
      context.restore();
    });
  }
}

// State

/** The state as text for a link. @type {(state: State) => string} */
export function toQuery(state) {
  const pairs = Object.entries(state).map(([key, value]) => [
    key,
    String(typeof value === "number" ? Number(value.toFixed(4)) : value),
  ]);
  return new URLSearchParams(pairs).toString();
}

/** What `toQuery` wrote; `set` replaces whatever does not fit. @type {(text: string) => Partial<State>} */
export function fromQuery(text) {
  return /** @type {Partial<State>} */ (Object.fromEntries(new URLSearchParams(text)));
}

/**
 * A state that fits a feed: unknown names and numbers out of range are replaced.
 * @type {(feed: Feed, wish: Record<string, unknown>) => State}
 */
function fitting(feed, wish) {
  /** @type {(key: string, low: number, high: number, usual: number) => number} */
  const number = (key, low, high, usual) => {
    const value = wish[key] === undefined || wish[key] === "" ? NaN : Number(wish[key]);
    return Number.isFinite(value) ? clamp(value, low, high) : usual;
  };
  /** @type {<T extends string>(key: string, known: readonly T[], usual: T) => T} */
  const name = (key, known, usual) => known.find((entry) => entry === wish[key]) ?? usual;
  const last = feed.targets.length - 1;
  const target = Math.round(number("target", 0, last, 0));
  const otherTarget = Math.round(number("otherTarget", 0, last, target));
  const { maps, smoothing } = feed.targets[target];
  const names = maps.map((entry) => entry.name);
  const map = name("map", names, ["regions", "signed", "margin"].find((entry) => names.includes(entry)) ?? names[0]);
  const others = ["", ...feed.targets[otherTarget].maps.map((entry) => entry.name)];
  const shared = maps.some((entry) => entry.limits);
  return {
    view: name("view", ["over", "map", "photo", "split"], "over"),
    target,
    map,
    otherTarget,
    otherMap: name("otherMap", others, map !== "original" && others.includes("original") ? "original" : ""),
    opacity: number("opacity", 0, 1, 1),
    top: number("top", 0.01, 100, 100),
    smoothing: number("smoothing", 0, 64, Math.round(10 * smoothing) / 10),
    limits: name("limits", shared ? ["own", "same", "given"] : ["own", "same"], shared ? "given" : "own"),
    gray: wish.gray === undefined || String(wish.gray) === "true",
    divider: number("divider", 0, 1, 0.5),
    zoom: number("zoom", 1, 4096, 1),
    x: number("x", 0, 1, 0.5),
    y: number("y", 0, 1, 0.5),
  };
}

// Page

/**
 * An element with attributes, listeners (functions) and children.
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag @param {Record<string, unknown>} attributes @param {(Node | string)[]} children
 * @returns {HTMLElementTagNameMap[K]}
 */
function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name, /** @type {EventListener} */ (value));
    else element.setAttribute(name, String(value));
  }
  element.append(...children);
  return element;
}

/** @type {(texts: string[]) => HTMLElement} */
const ends = (texts) => h("p", { class: "cv-ends" }, ...texts.map((text) => h("span", {}, text)));

/** What the colors of a map mean. @type {(layer: Layer, limit: number, over: boolean) => HTMLElement} */
function legend(layer, limit, over) {
  const { name, reads, kind, helps } = layer.map;
  const box = h("div", { class: "cv-legend" }, h("p", {}, h("strong", {}, name), ` ${reads}`));
  if (layer.isClass) {
    const list = h("ul", { class: "cv-classes" });
    for (const [label, color, share] of layer.rows()) {
      const chip = h("i");
      chip.style.background = css(color);
      if (share > 0) list.append(h("li", {}, chip, h("span", {}, label), h("span", {}, percent(share))));
    }
    box.append(list);
    return box;
  }
  const { ramps, hues, gray } = layer.feed.colors;
  const middle = gray[0] + gray[1] / 2;
  /** @type {(which: Helps) => Color[]} */
  const stops = (which) => (over ? [[middle, middle, middle], hues[which]] : ramps[which]);
  const one = kind === "magnitude";
  const [less, more] = signsOf(kind);
  const colors = one ? stops(helps) : [...[...stops(less)].reverse(), ...stops(more).slice(1)];
  const bar = h("div", { class: "cv-scale" });
  bar.style.background = `linear-gradient(90deg, ${colors.map(css).join(", ")})`;
  const areas = kind === "regions";
  const most = areas ? `${short(100 * limit)} points` : short(limit);
  box.append(bar, ends(one ? ["0", `${most} or more`] : [`${MINUS}${most}`, "0", `+${most}`]));
  if (!one) box.append(ends(areas ? ["the class gains", "costs the class"] : ["darker helps", "brighter helps"]));
  else if (helps !== "either") box.append(ends(["", `${helps} helps`]));
  if (layer.map.says) box.append(h("p", { class: "cv-says" }, layer.map.says));
  return box;
}

/** What the network says, the target class in bold. @type {(target: FeedTarget) => HTMLElement[]} */
function predictionRows({ predictions, label }) {
  return predictions.map((row) => {
    const bar = h("i");
    bar.style.width = `${100 * row.probability}%`;
    const name = h(row.label === label ? "b" : "span", {}, row.label);
    return h("li", {}, name, h("span", {}, percent(row.probability)), bar);
  });
}

/** @type {(event: Event) => string} */
const valueOf = (event) => /** @type {HTMLInputElement} */ (event.target).value;

/** @type {(name: string, options: [string, string][], id: string, choose: (value: string) => void) => HTMLElement} */
function segment(name, options, id, choose) {
  const labels = options.map(([value, text]) =>
    h("label", {}, h("input", { type: "radio", name: id, value, change: () => choose(value) }), h("span", {}, text)),
  );
  return h("div", { class: "cv-segment", role: "radiogroup", "aria-label": name }, ...labels);
}

/** A choice of names. @param {(value: string) => void} choose */
function choice(choose) {
  const select = h("select", { change: (/** @type {Event} */ event) => choose(valueOf(event)) });
  const title = h("span");
  const box = h("label", { class: "cv-choice" }, title, select);
  let filled = "";
  /** @type {(shown: boolean, name: string, options: [string, string][], value: string) => void} */
  const show = (shown, name, options, value) => {
    box.hidden = !shown;
    title.textContent = name;
    if (filled !== String(options)) {
      filled = String(options);
      select.replaceChildren(...options.map(([key, text]) => h("option", { value: key }, text)));
    }
    select.value = value;
  };
  return { box, show };
}

/** @type {(name: string, range: {min: number, max: number, step: number}, set: (value: number) => void) =>
 *   {box: HTMLElement, input: HTMLInputElement, show: (value: number, text: string, enabled: boolean) => void}} */
function slider(name, range, set) {
  const act = (/** @type {Event} */ event) => set(Number(valueOf(event)));
  const input = h("input", { type: "range", ...range, "aria-label": name, input: act });
  const text = h("span", { class: "cv-value" });
  return {
    input,
    box: h("label", { class: "cv-slider" }, h("span", {}, name), text, input),
    show(value, said, enabled) {
      input.value = String(value);
      input.setAttribute("aria-valuetext", said);
      input.disabled = !enabled;
      text.textContent = said;
    },
  };
}

/** The viewer around an element on the whole screen, or back in the page. @type {(inside: Element) => void} */
function toggleFullscreen(inside) {
  if (document.fullscreenElement) void document.exitFullscreen();
  else void inside.closest(".cv")?.requestFullscreen();
}

/**
 * The controls next to the picture: `show` brings them to a state.
 * @param {string} id @param {(patch: Partial<State>) => void} change @param {() => void} save
 */
function controls(id, change, save) {
  /** @type {[string, string][]} */
  const kinds = [["over", "Over photo"], ["map", "Map"], ["photo", "Photo"], ["split", "Compare"]];
  const views = segment("View", kinds, `${id}-view`, (view) => change({ view: /** @type {State["view"]} */ (view) }));
  /** @type {[string, string][]} */
  const scopes = [["own", "each map"], ["same", "all maps"], ["given", "all photos"]];
  const limits = segment("Color limits", scopes, `${id}-limits`, (value) =>
    change({ limits: /** @type {State["limits"]} */ (value) }),
  );
  const only = h("p", { class: "cv-choice" }, h("span", {}, "Class"), h("b"));
  const target = choice((value) => change({ target: Number(value) }));
  const map = choice((value) => change({ map: value }));
  const otherTarget = choice((value) => change({ otherTarget: Number(value) }));
  const otherMap = choice((value) => change({ otherMap: value }));
  const opacity = slider("Opacity", { min: 0, max: 100, step: 1 }, (value) => change({ opacity: value / 100 }));
  // The slider moves by squares: most is to be seen among the first percents.
  const top = slider("Strongest pixels", { min: 1, max: 100, step: 1 }, (value) => change({ top: value ** 2 / 100 }));
  const smoothing = slider("Smoothing", { min: 0, max: 9, step: 0.1 }, (value) => change({ smoothing: value }));
  const gray = h("input", { type: "checkbox", change: () => change({ gray: gray.checked }) });
  const predictions = h("ol", { class: "cv-answers", "aria-label": "Predictions" });
  const enlarge = h("button", { type: "button", click: () => toggleFullscreen(enlarge) }, "Full screen");
  enlarge.hidden = !document.fullscreenEnabled;
  const bar = h("div", { class: "cv-bar" }, views, only, target.box, map.box, otherTarget.box, otherMap.box);
  const side = h(
    "div",
    { class: "cv-side" },
    opacity.box,
    top.box,
    smoothing.box,
    h("div", { class: "cv-row" }, h("span", {}, "Color limits"), limits),
    h("label", { class: "cv-row" }, h("span", {}, "Photo in gray below a map"), gray),
    h("div", { class: "cv-row cv-acts" }, h("button", { type: "button", click: save }, "Download PNG"), enlarge),
    predictions,
  );
  /** @type {FeedTarget | null} */
  let listed = null;

  /** @type {(feed: Feed, state: State) => void} */
  const show = (feed, state) => {
    const split = state.view === "split";
    const left = split ? ", left" : "";
    for (const input of views.querySelectorAll("input")) input.checked = input.value === state.view;
    for (const input of limits.querySelectorAll("input")) input.checked = input.value === state.limits;
    const isShared = feed.targets[state.target].maps.some((entry) => entry.limits);
    limits.lastElementChild?.toggleAttribute("hidden", !isShared);
    const targets = feed.targets.map(({ name }, n) => /** @type {[string, string]} */ ([String(n), name]));
    const several = targets.length > 1;
    /** @type {(n: number) => [string, string][]} */
    const maps = (n) => feed.targets[n].maps.map(({ name }) => [name, name]);
    only.hidden = several;
    only.lastElementChild?.replaceChildren(feed.targets[0].name);
    target.show(several, `Class${left}`, targets, String(state.target));
    map.show(true, `Map${left}`, maps(state.target), state.map);
    otherTarget.show(several && split, "Class, right", targets, String(state.otherTarget));
    otherMap.show(split, "Map, right", [...maps(state.otherTarget), ["", "photo"]], state.otherMap);
    const shown = feed.targets[state.target];
    const isMeasured = shown.maps.some(({ name, kind }) => name === state.map && kind !== "class") || split;
    const onPhoto = state.view === "over" || split;
    smoothing.input.max = String(Math.max(3, Math.ceil(2 * shown.smoothing), state.smoothing));
    opacity.show(100 * state.opacity, `${Math.round(100 * state.opacity)} %`, onPhoto);
    const most = state.top >= 100 ? "all" : `top ${Number(state.top.toPrecision(2))} %`;
    top.show(10 * Math.sqrt(state.top), most, isMeasured && state.view !== "photo");
    const sigma = state.smoothing > 0 ? `${state.smoothing.toFixed(1)} px` : "none";
    const isFlat = !split && shown.maps.some(({ name, kind }) => name === state.map && kind === "regions");
    smoothing.show(state.smoothing, sigma, isMeasured && !isFlat && state.view !== "photo");
    gray.checked = state.gray;
    gray.disabled = !onPhoto;
    if (listed !== shown) predictions.replaceChildren(...predictionRows(shown));
    listed = shown;
  };
  return { bar, side, show };
}

let mounted = 0;

/**
 * Build the viewer inside an element.
 * @param {HTMLElement} element @param {Feed} feed @param {Partial<State> | null} [first]
 * @returns {Viewer}
 */
export function mount(element, feed, first) {
  const id = `cv-${++mounted}`;
  let state = fitting(feed, first ?? {});
  /** @type {Scene | null} */
  let scene = null;
  let turn = 0;
  let frame = 0;
  let drawnLegends = "";
  /** The pixel of the map that is read; `mark`: with a line around it. @type {Point & {mark: boolean} | null} */
  let probe = null;

  /** @param {Partial<State>} patch */
  const set = (patch) => {
    state = fitting(feed, { ...state, ...patch });
    show();
  };
  /** @param {Partial<State>} patch */
  const change = (patch) => {
    set(patch);
    element.dispatchEvent(new CustomEvent(CHANGE, { detail: { ...state }, bubbles: true }));
  };

  // Elements

  /** @type {(text: string, name: string, act: () => void) => HTMLButtonElement} */
  const button = (text, name, click) => h("button", { type: "button", "aria-label": name, title: name, click }, text);
  const panel = controls(id, change, () => void save().catch(showError));
  const canvas = h("canvas", { tabindex: 0, role: "application", "aria-describedby": `${id}-keys` });
  const divider = h("div", {
    class: "cv-divider",
    role: "slider",
    tabindex: 0,
    "aria-label": "Divider",
    "aria-orientation": "horizontal",
    "aria-valuemin": 0,
    "aria-valuemax": 100,
  });
  const tags = [h("span", { class: "cv-tag" }), h("span", { class: "cv-tag cv-tag-right" })];
  const zoomed = button("", "", () => change(EVERYTHING));
  const zooming = h(
    "div",
    { class: "cv-zoom", role: "group", "aria-label": "Zoom" },
    button(MINUS, "Zoom out", () => zoomBy(1 / 1.5)),
    zoomed,
    button("+", "Zoom in", () => zoomBy(1.5)),
  );
  const stage = h("div", { class: "cv-stage" }, canvas, ...tags, divider, zooming);
  const readout = h("output", { class: "cv-readout", "aria-live": "polite" });
  const keys = h(
    "p",
    { class: "cv-keys", id: `${id}-keys` },
    "Drag to move; Ctrl and wheel or two fingers to zoom. " +
      `By keyboard: arrows (with Shift by ten pixels), +, ${MINUS}, 0.`,
  );
  const legends = h("div", { class: "cv-legends" });
  const body = h("div", { class: "cv-body" }, panel.bar, h("div", {}, stage, readout, legends, keys), panel.side);
  const root = h("div", { class: "cv", role: "group" }, body);

  /** Bring the page to the state, and draw in the next frame. */
  const show = () => {
    panel.show(feed, state);
    root.setAttribute("aria-label", `Viewer: ${feed.title}`);
    zoomed.textContent = `${Math.round(100 * state.zoom)} %`;
    zoomed.title = "Show everything";
    zoomed.setAttribute("aria-label", `Zoom ${zoomed.textContent}, show everything`);
    divider.hidden = state.view !== "split";
    divider.style.left = `${100 * state.divider}%`;
    divider.setAttribute("aria-valuenow", String(Math.round(100 * state.divider)));
    canvas.style.touchAction = state.zoom > 1 ? "none" : "pan-y";
    redraw();
  };
  const redraw = () => {
    if (frame === 0) frame = requestAnimationFrame(draw);
  };

  // Drawing

  const sides = () => scene?.sides(state) ?? [];
  /** @param {Scene} scene */
  const placeOf = (scene) => scene.place(state, canvas.width, canvas.height);

  const draw = () => {
    frame = 0;
    if (!scene || canvas.width === 0) return;
    const context = context2d(canvas);
    scene.draw(context, state, placeOf(scene), Math.round(state.divider * canvas.width), true);
    drawMark(context);
    const maps = state.view === "photo" ? [] : [...new Set(sides())].filter((layer) => layer !== null);
    describe(maps);
    showLegends(scene, maps);
  };

  /** @param {CanvasRenderingContext2D} context */
  const drawMark = (context) => {
    const box = probe?.mark ? probeBox() : null;
    if (!box) return;
    const more = Math.max(0, (9 - box.side) / 2);
    for (const [color, line] of /** @type {const} */ ([["#000", 4], ["#fff", 2]])) {
      Object.assign(context, { strokeStyle: color, lineWidth: line });
      context.strokeRect(box.x - more, box.y - more, box.side + 2 * more, box.side + 2 * more);
    }
  };

  /** @param {Layer[]} maps */
  const describe = (maps) => {
    const several = feed.targets.length > 1;
    tags.forEach((tag, side) => {
      const layer = sides()[side];
      tag.hidden = state.view !== "split";
      tag.textContent = layer ? `${layer.map.name}${several ? ` · ${firstName(layer.target.label)}` : ""}` : "photo";
    });
    const about = maps.map((layer) => `${layer.map.name} map for ${firstName(layer.target.label)}`).join(" and ");
    canvas.setAttribute("aria-label", `${feed.title}: ${about || "the photo"}`);
    const [first] = sides();
    if (!probe || !first) readout.textContent = "Point at the picture to read a pixel.";
    else if (probe.x < 0) readout.textContent = "Outside what the network saw.";
    else {
      const { x, y } = probe;
      /** @type {(n: number, from: number, to: number) => number} */
      const scaled = (n, from, to) => Math.floor(((n + 0.5) * to) / from);
      const said = (maps.length ? maps : [first]).map((layer) => {
        const across = scaled(x, first.map.width, layer.map.width);
        return layer.describe(across, scaled(y, first.map.height, layer.map.height), state.smoothing);
      });
      readout.textContent = `${said.join("; ")} · pixel ${x}, ${y}`;
    }
  };

  /** @param {Scene} scene @param {Layer[]} maps */
  const showLegends = (scene, maps) => {
    const over = state.view !== "map";
    const limits = maps.map((layer) => (layer.isClass ? 0 : scene.limit(layer, state)));
    const key = JSON.stringify([turn, over, limits, maps.map(({ map, target }) => [map.name, target.name])]);
    if (key !== drawnLegends) legends.replaceChildren(...maps.map((layer, n) => legend(layer, limits[n], over)));
    drawnLegends = key;
  };

  // Zoom and cursor

  /** Where a pointer is on the canvas. @type {(event: MouseEvent) => Point} */
  const pointOf = (event) => {
    const box = canvas.getBoundingClientRect();
    const ratio = canvas.width / box.width;
    return { x: (event.clientX - box.left) * ratio, y: (event.clientY - box.top) * ratio };
  };

  /**
   * Show a middle, as shares; it stays where the picture fills the canvas.
   * @type {(x: number, y: number, zoom: number) => void}
   */
  const moveTo = (x, y, zoom) => {
    if (!scene) return;
    const scale = zoom * scene.fit(canvas.width, canvas.height);
    /** @type {(middle: number, half: number) => number} */
    const within = (middle, half) => (half >= 0.5 ? 0.5 : clamp(middle, half, 1 - half));
    const half = { x: canvas.width / scale / scene.width / 2, y: canvas.height / scale / scene.height / 2 };
    change({ zoom, x: within(x, half.x), y: within(y, half.y) });
  };

  /** Zoom; what is under the point stays there. @type {(factor: number, about?: Point | null) => void} */
  const zoomBy = (factor, about) => {
    if (!scene) return;
    const point = about ?? { x: canvas.width / 2, y: canvas.height / 2 };
    const fit = scene.fit(canvas.width, canvas.height);
    const zoom = clamp(state.zoom * factor, 1, scene.zoomMax(fit));
    const at = placeOf(scene);
    const x = (point.x - at.dx) / at.scale - scene.world.left + (canvas.width / 2 - point.x) / (fit * zoom);
    const y = (point.y - at.dy) / at.scale - scene.world.top + (canvas.height / 2 - point.y) / (fit * zoom);
    moveTo(x / scene.width, y / scene.height, zoom);
  };

  /** @type {(dx: number, dy: number) => void} */
  const pan = (dx, dy) => {
    if (!scene || state.zoom === 1) return;
    const { scale } = placeOf(scene);
    moveTo(state.x - dx / scale / scene.width, state.y - dy / scale / scene.height, state.zoom);
  };

  /** @type {(point: Point, mark: boolean) => void} */
  const probeAt = (point, mark) => {
    const [layer] = sides();
    if (!scene || !layer) return;
    const { width, height } = layer.map;
    const [left, top, across, down] = boxOn(placeOf(scene), layer.target.crop);
    const x = Math.floor(((point.x - left) / across) * width);
    const y = Math.floor(((point.y - top) / down) * height);
    const inside = x >= 0 && y >= 0 && x < width && y < height;
    probe = inside ? { x, y, mark } : { x: -1, y: -1, mark: false };
    redraw();
  };

  /** Where the pixel that is read lies on the canvas. */
  const probeBox = () => {
    const [layer] = sides();
    if (!scene || !layer || !probe || probe.x < 0) return null;
    const [left, top, across] = boxOn(placeOf(scene), layer.target.crop);
    const side = across / layer.map.width;
    return { x: left + probe.x * side, y: top + probe.y * side, side };
  };

  const probeMiddle = () => {
    const box = probeBox();
    return box && { x: box.x + box.side / 2, y: box.y + box.side / 2 };
  };

  /** @type {(dx: number, dy: number) => void} */
  const moveProbe = (dx, dy) => {
    const [layer] = sides();
    if (!layer) return;
    if (!probe || probe.x < 0) {
      probeAt({ x: canvas.width / 2, y: canvas.height / 2 }, true);
      return;
    }
    const { width, height } = layer.map;
    probe = { x: clamp(probe.x + dx, 0, width - 1), y: clamp(probe.y + dy, 0, height - 1), mark: true };
    const point = probeMiddle();
    /** How far a cursor is beyond the middle eight tenths. @type {(place: number, room: number) => number} */
    const beyond = (place, room) => Math.min(0, place - 0.1 * room) + Math.max(0, place - 0.9 * room);
    const out = point ? { x: beyond(point.x, canvas.width), y: beyond(point.y, canvas.height) } : { x: 0, y: 0 };
    if (out.x || out.y) pan(-out.x, -out.y);
    redraw();
  };

  // Pointer and keys

  /** @type {Map<number, Point>} */
  const pointers = new Map();
  const listeners = {
    /** @param {PointerEvent} event */
    pointerdown(event) {
      canvas.setPointerCapture(event.pointerId);
      pointers.set(event.pointerId, pointOf(event));
    },
    /** @param {PointerEvent} event */
    pointermove(event) {
      const now = pointOf(event);
      const before = pointers.get(event.pointerId);
      const other = [...pointers].find(([key]) => key !== event.pointerId)?.[1];
      if (before) pointers.set(event.pointerId, now);
      if (before && other) {
        const was = Math.hypot(before.x - other.x, before.y - other.y);
        const is = Math.hypot(now.x - other.x, now.y - other.y);
        if (was > 0 && is > 0) zoomBy(is / was, { x: (now.x + other.x) / 2, y: (now.y + other.y) / 2 });
      } else if (before) pan(now.x - before.x, now.y - before.y);
      probeAt(now, event.pointerType !== "mouse");
    },
    /** @param {PointerEvent} event */
    pointerup(event) {
      pointers.delete(event.pointerId);
      probeAt(pointOf(event), event.pointerType !== "mouse");
    },
    /** @param {PointerEvent} event */
    pointercancel: (event) => pointers.delete(event.pointerId),
    pointerleave() {
      if (!probe?.mark) probe = null;
      redraw();
    },
    /** @param {MouseEvent} event */
    dblclick: (event) => zoomBy(2, pointOf(event)),
    /** @param {WheelEvent} event */
    wheel(event) {
      if (!event.ctrlKey && !event.metaKey) return; // the page scrolls
      event.preventDefault();
      zoomBy(Math.exp(-event.deltaY * 0.003), pointOf(event));
    },
    /** @param {KeyboardEvent} event */
    keydown(event) {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const step = event.shiftKey ? 10 : 1;
      /** @type {Record<string, () => void>} */
      const acts = {
        ArrowLeft: () => moveProbe(-step, 0),
        ArrowRight: () => moveProbe(step, 0),
        ArrowUp: () => moveProbe(0, -step),
        ArrowDown: () => moveProbe(0, step),
        "+": () => zoomBy(1.5, probeMiddle()),
        "=": () => zoomBy(1.5, probeMiddle()),
        "-": () => zoomBy(1 / 1.5, probeMiddle()),
        0: () => change(EVERYTHING),
        Escape: () => {
          probe = null;
          redraw();
        },
      };
      if (!(event.key in acts)) return;
      event.preventDefault();
      acts[event.key]();
    },
  };
  for (const [name, listener] of Object.entries(listeners)) {
    canvas.addEventListener(name, /** @type {EventListener} */ (listener), { passive: false });
  }

  divider.addEventListener("pointerdown", (event) => {
    divider.setPointerCapture(event.pointerId);
    divider.focus();
    event.preventDefault();
  });
  divider.addEventListener("pointermove", (event) => {
    if (divider.hasPointerCapture(event.pointerId)) change({ divider: pointOf(event).x / canvas.width });
  });
  divider.addEventListener("keydown", (event) => {
    const step = event.shiftKey ? 0.1 : 0.01;
    const { divider: now } = state;
    /** @type {Record<string, number>} */
    const places = {
      ArrowLeft: now - step,
      ArrowDown: now - step,
      ArrowRight: now + step,
      ArrowUp: now + step,
      PageDown: now - 0.1,
      PageUp: now + 0.1,
      Home: 0,
      End: 1,
    };
    if (!(event.key in places)) return;
    event.preventDefault();
    change({ divider: places[event.key] });
  });

  // Files and feeds

  /** @param {Error} error */
  const showError = (error) => {
    readout.textContent = `The picture cannot be made: ${error.message}`;
  };

  const picture = async () => {
    await ready;
    if (!scene) throw new Error("there is no picture");
    const context = newCanvas(feed.photo.width, feed.photo.height);
    const { scale, dx } = placeOf(scene);
    scene.draw(context, state, { scale: 1, dx: 0, dy: 0 }, (state.divider * canvas.width - dx) / scale, false);
    return new Promise((/** @type {(blob: Blob) => void} */ done, fail) => {
      context.canvas.toBlob((blob) => (blob ? done(blob) : fail(new Error("the picture is too large"))), "image/png");
    });
  };

  const save = async () => {
    const address = URL.createObjectURL(await picture());
    const { view, map, otherMap } = state;
    const shown = view === "photo" ? "photo" : view === "split" ? `${map}-${otherMap || "photo"}` : map;
    h("a", { href: address, download: `${feed.title.replace(/\.\w+$/, "")}-${shown}.png` }).click();
    setTimeout(() => URL.revokeObjectURL(address), 1000);
  };

  const watch = new ResizeObserver(() => {
    const ratio = window.devicePixelRatio || 1;
    const size = { width: Math.round(stage.clientWidth * ratio), height: Math.round(stage.clientHeight * ratio) };
    if (size.width === canvas.width && size.height === canvas.height) return;
    Object.assign(canvas, size);
    draw(); // at once: a canvas of a new size is empty
  });

  /** @param {Feed} next */
  const shape = (next) => {
    const { left, top, right, bottom } = worldOf(next);
    stage.style.aspectRatio = `${right - left} / ${bottom - top}`;
  };

  /** @param {Feed} next */
  const update = async (next) => {
    const own = ++turn;
    const decoded = await Scene.from(next).catch((error) => {
      showError(error);
      throw error;
    });
    if (own !== turn) return; // a newer one came
    feed = next;
    scene = decoded;
    probe = null;
    shape(feed);
    set({});
  };

  element.replaceChildren(root);
  shape(feed);
  watch.observe(stage);
  show();
  const ready = update(feed);
  return {
    ready,
    update,
    picture,
    set,
    get: () => ({ ...state }),
    destroy() {
      turn++;
      cancelAnimationFrame(frame);
      watch.disconnect();
      root.remove();
    },
  };
}

// Notebook

/** What anywidget calls. @type {(widget: {model: Model, el: HTMLElement}) => () => void} */
export function render({ model, el }) {
  // JupyterLab would take arrows and letters for itself.
  el.addEventListener("keydown", (event) => {
    if (!event.ctrlKey && !event.metaKey) event.stopPropagation();
  });
  const viewer = mount(el, model.get("feed"), model.get("state"));
  const feedChanged = () => void viewer.update(model.get("feed"));
  const stateChanged = () => viewer.set(model.get("state"));
  el.addEventListener(CHANGE, (event) => {
    model.set("state", /** @type {CustomEvent<State>} */ (event).detail);
    model.save_changes();
  });
  model.on("change:feed", feedChanged);
  model.on("change:state", stateChanged);
  return () => {
    model.off("change:feed", feedChanged);
    model.off("change:state", stateChanged);
    viewer.destroy();
  };
}
export default { render };
