/**
 * A photo with its saliency maps: in a page, in a live page, in a notebook.
 *
 * `mount(element, feed)` builds the viewer. Everything is drawn here; nothing is asked of a server.
 * The feed is what `chiaroscuro.viewer.make_feed` makes.
 */

/** @import {Box, Color, Feed, FeedMap, FeedTarget, Helps, Model, Place, State, Viewer} from "./types.d.ts" */

export const CHANGE = "chiaroscuro-change";
const TIE = 65535;
const OTHER = 65534;
const LEVELS = 4095;
const STEPS = 1023;
const NEAR = 8;
const VIEWS = /** @type {const} */ ([
  ["over", "Over photo"],
  ["map", "Map"],
  ["photo", "Photo"],
  ["split", "Compare"],
]);

// Numbers

/**
 * A map under a Gaussian, cut at 4 sigma; near an edge the weights inside sum to 1.
 *
 * @param {Float32Array} values
 * @param {number} width
 * @param {number} height
 * @param {number} sigma
 */
export function smooth(values, width, height, sigma) {
  if (sigma <= 0) return values;
  return blurRows(blurRows(values, width, height, sigma), height, width, sigma);
}

/**
 * Every row blurred; the result is transposed, so that twice is both axes.
 *
 * @param {Float32Array} values
 * @param {number} width
 * @param {number} height
 * @param {number} sigma
 */
function blurRows(values, width, height, sigma) {
  const reach = Math.min(Math.floor(4 * sigma + 0.5), width - 1);
  const weights = Float64Array.from({ length: reach + 1 }, (_, k) => Math.exp(-0.5 * (k / sigma) ** 2));
  const row = new Float64Array(width + 2 * reach);
  const result = new Float32Array(values.length);
  const inside = new Float64Array(width);
  for (let x = 0; x < width; x++) {
    for (let k = -reach; k <= reach; k++) if (x + k >= 0 && x + k < width) inside[x] += weights[Math.abs(k)];
  }
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
 * The k-th largest magnitude, k from 1: magnitudes sort as the bits of their floats do.
 *
 * @param {Float32Array} values
 * @param {number} k
 */
export function kthLargest(values, k) {
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  const high = new Uint32Array(1 << 15);
  for (const b of bits) high[(b >>> 16) & 0x7fff]++;
  let left = k;
  let bin = high.length - 1;
  while (bin > 0 && left > high[bin]) left -= high[bin--];
  const low = new Uint32Array(1 << 16);
  for (const b of bits) if (((b >>> 16) & 0x7fff) === bin) low[b & 0xffff]++;
  let rest = low.length - 1;
  while (rest > 0 && left > low[rest]) left -= low[rest--];
  return new Float32Array(Uint32Array.of((bin << 16) | rest).buffer)[0];
}

/**
 * A quantile of the magnitudes that are not zero, interpolated; 0 for an empty map.
 *
 * @param {Float32Array} values
 * @param {number} share
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

/** @param {number} value */
function short(value) {
  return String(Number(value.toPrecision(2))).replaceAll("-", "\u2212");
}

/** @param {number} share */
function percent(share) {
  const value = 100 * share;
  if (value > 0 && value < 0.01) return "< 0.01 %";
  return `${value >= 10 ? value.toFixed(0) : Number(value.toPrecision(2))} %`;
}

/** @param {Color} color */
const css = (color) => `rgb(${color.join(", ")})`;

/** @param {number} value @param {number} low @param {number} high */
const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

/**
 * Red, green, blue and alpha as one number of a picture's memory.
 *
 * @param {Color} color
 * @param {number} [alpha]
 */
const packed = ([r, g, b], alpha = 255) => ((alpha << 24) | (b << 16) | (g << 8) | r) >>> 0;

/**
 * A color of a ramp at a share in [0, 1].
 *
 * @param {Color[]} stops
 * @param {number} share
 */
function ramp(stops, share) {
  const place = share * (stops.length - 1);
  const first = Math.min(Math.floor(place), stops.length - 2);
  const part = place - first;
  const mixed = stops[first].map((c, k) => Math.round(c + part * (stops[first + 1][k] - c)));
  return /** @type {Color} */ (mixed);
}

/**
 * Colors of shares -1 to 1 of the limit, in 2 STEPS + 1 steps.
 *
 * @param {Feed["colors"]} colors
 * @param {FeedMap} map
 * @param {boolean} over Whether the map lies over the photo: a hue that covers it by the share.
 */
function colorTable(colors, map, over) {
  const table = new Uint32Array(2 * STEPS + 1);
  for (let step = -STEPS; step <= STEPS; step++) {
    const share = Math.abs(step) / STEPS;
    const helps = map.kind === "magnitude" ? map.helps : step < 0 ? "darker" : "brighter";
    table[STEPS + step] = over
      ? packed(colors.hues[helps], Math.round(255 * share))
      : packed(ramp(colors.ramps[helps], share));
  }
  return table;
}

// Maps

/** One map: its numbers, and a small canvas with its picture. */
class Layer {
  /**
   * @param {Feed} feed
   * @param {FeedTarget} target
   * @param {FeedMap} map
   * @param {ArrayBuffer} codes
   */
  constructor(feed, target, map, codes) {
    this.feed = feed;
    this.target = target;
    this.map = map;
    this.isClass = map.kind === "class";
    this.codes = new Uint16Array(codes);
    this.raw = this.isClass ? new Float32Array() : expanded(new Int16Array(codes), map.peak);
    /** @type {Float32Array} */
    this.shown = this.raw;
    this.sigma = 0;
    this.painted = "";
    /** @type {Map<number, number>} */
    this.limits = new Map();
    /** @type {Map<boolean, Uint32Array>} */
    this.tables = new Map();
    this.canvas = document.createElement("canvas");
    this.canvas.width = map.width;
    this.canvas.height = map.height;
  }

  /** @param {number} sigma */
  values(sigma) {
    if (sigma !== this.sigma) {
      this.shown = smooth(this.raw, this.map.width, this.map.height, sigma);
      this.sigma = sigma;
    }
    return this.shown;
  }

  /** @param {number} sigma */
  limit(sigma) {
    const known = this.limits.get(sigma);
    if (known !== undefined) return known;
    const found = quantile(this.values(sigma), this.feed.clip);
    this.limits.set(sigma, found);
    return found;
  }

  /** @param {boolean} over */
  table(over) {
    const known = this.tables.get(over) ?? colorTable(this.feed.colors, this.map, over);
    this.tables.set(over, known);
    return known;
  }

  /**
   * Paint the small canvas, unless it shows just that.
   *
   * @param {{sigma: number, top: number, limit: number, over: boolean}} how
   */
  paint(how) {
    const key = this.isClass ? String(how.over) : Object.values(how).join();
    if (key === this.painted) return;
    this.painted = key;
    const context = context2d(this.canvas);
    const picture = context.createImageData(this.map.width, this.map.height);
    const pixels = new Uint32Array(picture.data.buffer);
    if (this.isClass) this.paintClasses(pixels, how.over);
    else this.paintValues(pixels, how);
    context.putImageData(picture, 0, 0);
  }

  /**
   * @param {Uint32Array} pixels
   * @param {{sigma: number, top: number, limit: number, over: boolean}} how
   */
  paintValues(pixels, { sigma, top, limit, over }) {
    const values = this.values(sigma);
    const table = this.table(over);
    const least = threshold(values, top);
    const scale = limit > 0 ? STEPS / limit : 0;
    for (let i = 0; i < values.length; i++) {
      const value = values[i];
      const step = Math.abs(value) < least ? 0 : Math.round(value * scale);
      pixels[i] = table[STEPS + clamp(step, -STEPS, STEPS)];
    }
  }

  /**
   * @param {Uint32Array} pixels
   * @param {boolean} over
   */
  paintClasses(pixels, over) {
    const { colors } = this.feed;
    const alpha = over ? 150 : 255;
    const own = this.map.classes.map((entry) => packed(entry.color, alpha));
    const other = packed(colors.other, alpha);
    const tie = packed(colors.zero, over ? 0 : 255);
    for (let i = 0; i < pixels.length; i++) {
      const code = this.codes[i];
      pixels[i] = code === TIE ? tie : code === OTHER ? other : own[code];
    }
  }

  /** How many pixels each class has: its own classes, then others, then ties. */
  counts() {
    const counts = new Map();
    for (const code of this.codes) counts.set(code, (counts.get(code) ?? 0) + 1);
    return [...this.map.classes.keys(), OTHER, TIE].map((code) => counts.get(code) ?? 0);
  }

  /**
   * What the pixel says, in words.
   *
   * @param {number} x
   * @param {number} y
   * @param {number} sigma
   */
  describe(x, y, sigma) {
    const place = y * this.map.width + x;
    if (this.isClass) {
      const code = this.codes[place];
      if (code === TIE) return `${this.map.name}: a tie`;
      return `${this.map.name}: ${this.map.classes[code]?.label ?? "another class"}`;
    }
    const values = this.values(sigma);
    const value = values[place];
    if (value === 0) return `${this.map.name} 0: no effect shown`;
    let rank = 1;
    for (const other of values) if (Math.abs(other) > Math.abs(value)) rank++;
    const helps = this.map.kind === "magnitude" ? this.map.helps : value > 0 ? "brighter" : "darker";
    const says = helps === "either" ? "moves" : `${helps} helps`;
    const sign = this.map.kind !== "magnitude" && value > 0 ? "+" : "";
    return (
      `${this.map.name} ${sign}${short(value)}: ${says} ${this.target.label}, ` +
      `in the top ${percent(rank / values.length)}`
    );
  }
}

/**
 * @param {Int16Array} codes
 * @param {number} peak
 */
function expanded(codes, peak) {
  return Float32Array.from(codes, (code) => Math.sign(code) * peak * (code / LEVELS) ** 2);
}

/**
 * The least magnitude of the largest values, `top` percent of the pixels.
 *
 * @param {Float32Array} values
 * @param {number} top
 */
function threshold(values, top) {
  if (top >= 100) return 0;
  const count = Math.round((top / 100) * values.length);
  return count === 0 ? Infinity : kthLargest(values, count);
}

/** @param {HTMLCanvasElement} canvas */
function context2d(canvas) {
  const context = canvas.getContext("2d");
  if (!context) throw new Error("this browser draws no canvas");
  return context;
}

/** @param {string} text */
async function unpacked(text) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).arrayBuffer();
}

/**
 * A feed with its photo and maps decoded.
 *
 * @param {Feed} feed
 */
async function loaded(feed) {
  const photo = new Image();
  photo.src = feed.photo.uri;
  const layers = feed.targets.map((target) =>
    Promise.all(target.maps.map(async (map) => new Layer(feed, target, map, await unpacked(map.data)))),
  );
  await photo.decode();
  return { feed, photo, layers: await Promise.all(layers), world: worldOf(feed) };
}

/**
 * The photo and every crop box together, in photo pixels: a padded photo has a larger box.
 *
 * @param {Feed} feed
 */
function worldOf(feed) {
  const boxes = feed.targets.map((target) => target.crop);
  const left = Math.min(0, ...boxes.map((box) => box.left));
  const top = Math.min(0, ...boxes.map((box) => box.top));
  const right = Math.max(feed.photo.width, ...boxes.map((box) => box.right));
  const bottom = Math.max(feed.photo.height, ...boxes.map((box) => box.bottom));
  return { left, top, width: right - left, height: bottom - top };
}

/**
 * The photo in the gray that lies below maps.
 *
 * @param {HTMLImageElement} photo
 * @param {Feed["colors"]} colors
 */
function grayed(photo, { gray, luma }) {
  const canvas = document.createElement("canvas");
  canvas.width = photo.naturalWidth;
  canvas.height = photo.naturalHeight;
  const context = context2d(canvas);
  context.drawImage(photo, 0, 0);
  const picture = context.getImageData(0, 0, canvas.width, canvas.height);
  const { data } = picture;
  for (let i = 0; i < data.length; i += 4) {
    const light = (luma[0] * data[i] + luma[1] * data[i + 1] + luma[2] * data[i + 2]) / 255;
    data[i] = data[i + 1] = data[i + 2] = Math.round(gray[0] + gray[1] * light);
  }
  context.putImageData(picture, 0, 0);
  return canvas;
}

// State

/**
 * The state as text for a link.
 *
 * @param {State} state
 */
export function toQuery(state) {
  const pairs = Object.entries(state).map(([key, value]) => {
    const text = typeof value === "number" ? String(Number(value.toFixed(4))) : String(value);
    return [key, text];
  });
  return new URLSearchParams(pairs).toString();
}

/**
 * What `toQuery` wrote; `set` puts right whatever else a link says.
 *
 * @param {string} text
 * @returns {Partial<State>}
 */
export function fromQuery(text) {
  return /** @type {Partial<State>} */ (Object.fromEntries(new URLSearchParams(text)));
}

/**
 * A state that fits a feed: unknown names and numbers out of range are put right.
 *
 * @param {Feed} feed
 * @param {Record<string, unknown>} wish
 * @returns {State}
 */
function fitting(feed, wish) {
  /** @type {(key: string, low: number, high: number, usual: number) => number} */
  const number = (key, low, high, usual) => {
    const value = wish[key] === undefined || wish[key] === "" ? NaN : Number(wish[key]);
    return Number.isFinite(value) ? clamp(value, low, high) : usual;
  };
  /** @type {(key: string, usual: boolean) => boolean} */
  const flag = (key, usual) => (wish[key] === undefined ? usual : String(wish[key]) === "true");
  const last = feed.targets.length - 1;
  const target = Math.round(number("target", 0, last, 0));
  const otherTarget = Math.round(number("otherTarget", 0, last, target));
  const names = feed.targets[target].maps.map((map) => map.name);
  const others = ["", ...feed.targets[otherTarget].maps.map((map) => map.name)];
  const usual = ["signed", "margin"].find((name) => names.includes(name)) ?? names[0];
  const map = names.find((name) => name === wish.map) ?? usual;
  const usualOther = others.find((name) => name === "original" && name !== map) ?? "";
  return {
    view: VIEWS.find(([view]) => view === wish.view)?.[0] ?? "over",
    target,
    map,
    otherTarget,
    otherMap: others.find((name) => name === wish.otherMap) ?? usualOther,
    opacity: number("opacity", 0, 1, 1),
    top: number("top", 0.01, 100, 100),
    smoothing: number("smoothing", 0, 64, Math.round(10 * feed.targets[target].smoothing) / 10),
    limits: wish.limits === "same" ? "same" : "own",
    gray: flag("gray", true),
    divider: number("divider", 0, 1, 0.5),
    zoom: number("zoom", 1, 4096, 1),
    x: number("x", 0, 1, 0.5),
    y: number("y", 0, 1, 0.5),
  };
}

// Page

/**
 * An element with attributes, listeners (functions) and children.
 *
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag
 * @param {Record<string, unknown>} [attributes]
 * @param {...(Node | string)} children
 * @returns {HTMLElementTagNameMap[K]}
 */
function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name, /** @type {EventListener} */ (value));
    else if (value !== false) element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children);
  return element;
}

let mounted = 0;

/**
 * Build the viewer inside an element; it fires `CHANGE` with the state when a person changes it.
 *
 * @param {HTMLElement} element
 * @param {Feed} feed
 * @param {Partial<State>} [first]
 * @returns {Viewer}
 */
export function mount(element, feed, first = {}) {
  const id = `cv-${++mounted}`;
  let state = fitting(feed, first);
  /** @type {Awaited<ReturnType<typeof loaded>> | null} */
  let content = null;
  /** @type {HTMLCanvasElement | null} */
  let grayPhoto = null;
  let turn = 0;
  let frame = 0;
  /** @type {{x: number, y: number, mark: boolean} | null} */
  let probe = null;
  /** @type {Map<number, {x: number, y: number}>} */
  const pointers = new Map();
  /** @type {Map<boolean, {key: string, canvas: HTMLCanvasElement}>} */
  const grounds = new Map();

  // Controls

  /** @param {Partial<State>} patch */
  const change = (patch) => {
    state = fitting(feed, { ...state, ...patch });
    sync();
    element.dispatchEvent(new CustomEvent(CHANGE, { detail: { ...state }, bubbles: true }));
  };
  /** @param {Event} event */
  const valueOf = (event) => /** @type {HTMLInputElement | HTMLSelectElement} */ (event.target).value;

  /** @type {(name: string, options: readonly (readonly [string, string])[], key: "view" | "limits") => HTMLFieldSetElement} */
  const segment = (name, options, key) =>
    h(
      "fieldset",
      { class: "cv-segment", role: "radiogroup", "aria-label": name },
      ...options.map(([value, text]) =>
        h(
          "label",
          {},
          h("input", { type: "radio", name: `${id}-${key}`, value, change: () => change({ [key]: value }) }),
          h("span", {}, text),
        ),
      ),
    );

  /** @type {(name: string, set: (value: string) => void) => {box: HTMLElement, select: HTMLSelectElement}} */
  const choice = (name, set) => {
    const select = h("select", { change: (/** @type {Event} */ event) => set(valueOf(event)) });
    return { box: h("label", { class: "cv-choice" }, h("span", {}, name), select), select };
  };

  /** @type {(name: string, range: {min: number, max: number, step: number}, set: (value: number) => void) => {box: HTMLElement, input: HTMLInputElement, text: HTMLElement}} */
  const slider = (name, range, set) => {
    const input = h("input", {
      type: "range",
      ...range,
      "aria-label": name,
      input: (/** @type {Event} */ event) => set(Number(valueOf(event))),
    });
    const text = h("span", { class: "cv-value" });
    return { box: h("label", { class: "cv-slider" }, h("span", {}, name), text, input), input, text };
  };

  const views = segment("View", VIEWS, "view");
  const limits = segment("Color limits", [["own", "each map"], ["same", "all maps"]], "limits");
  const target = choice("Class", (value) => change({ target: Number(value) }));
  const map = choice("Map", (value) => change({ map: value }));
  const otherTarget = choice("Class, right", (value) => change({ otherTarget: Number(value) }));
  const otherMap = choice("Map, right", (value) => change({ otherMap: value }));
  const opacity = slider("Opacity", { min: 0, max: 100, step: 1 }, (value) => change({ opacity: value / 100 }));
  // The slider moves by squares: most is to be seen among the first percents.
  const top = slider("Strongest pixels", { min: 1, max: 100, step: 1 }, (value) => change({ top: value ** 2 / 100 }));
  const smoothing = slider("Smoothing", { min: 0, max: 9, step: 0.1 }, (value) => change({ smoothing: value }));
  const gray = h("input", {
    type: "checkbox",
    change: (/** @type {Event} */ event) => change({ gray: /** @type {HTMLInputElement} */ (event.target).checked }),
  });
  /** @type {(text: string, name: string, act: () => void) => HTMLButtonElement} */
  const button = (text, name, act) => h("button", { type: "button", "aria-label": name, title: name, click: act }, text);
  const size = h("button", { type: "button", title: "Show everything", click: () => change({ zoom: 1, x: 0.5, y: 0.5 }) });
  const zooming = h(
    "div",
    { class: "cv-zoom", role: "group", "aria-label": "Zoom" },
    button("\u2212", "Zoom out", () => zoomBy(1 / 1.5)),
    size,
    button("+", "Zoom in", () => zoomBy(1.5)),
  );
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
  const stage = h("div", { class: "cv-stage" }, canvas, ...tags, divider, zooming);
  const readout = h("output", { class: "cv-readout", "aria-live": "polite" });
  const only = h("p", { class: "cv-choice" }, h("span", {}, "Class"), h("b"));
  const answers = h("ol", { class: "cv-answers", "aria-label": "Predictions" });
  const legends = h("div", { class: "cv-legends" });
  const download = h("button", { type: "button", class: "cv-download", click: () => void save() }, "Download PNG");
  const bar = h("div", { class: "cv-bar" }, views, only, target.box, map.box, otherTarget.box, otherMap.box);
  const keys = h(
    "p",
    { class: "cv-keys", id: `${id}-keys` },
    "Drag to move; Ctrl and wheel or two fingers to zoom. By keyboard: arrows (with Shift by ten pixels), +, \u2212, 0.",
  );
  const side = h(
    "div",
    { class: "cv-side" },
    opacity.box,
    top.box,
    smoothing.box,
    h("div", { class: "cv-row" }, h("span", {}, "Color limits"), limits),
    h("label", { class: "cv-row" }, h("span", {}, "Photo in gray below a map"), gray),
    download,
    answers,
  );
  const root = h(
    "div",
    { class: "cv", role: "group", "aria-label": `Viewer: ${feed.title}` },
    h("div", { class: "cv-body" }, bar, h("div", {}, stage, readout, keys, legends), side),
  );

  /**
   * @param {HTMLSelectElement} select
   * @param {(readonly [string, string])[]} options
   * @param {string} value
   */
  const fill = (select, options, value) => {
    const key = JSON.stringify(options);
    if (select.dataset.options !== key) {
      select.dataset.options = key;
      select.replaceChildren(...options.map(([name, text]) => h("option", { value: name }, text)));
    }
    select.value = value;
  };

  /** Bring the controls to the state, and draw. */
  const sync = () => {
    const split = state.view === "split";
    for (const [box, key] of /** @type {const} */ ([[views, "view"], [limits, "limits"]])) {
      for (const input of box.querySelectorAll("input")) input.checked = input.value === state[key];
    }
    const targets = feed.targets.map((entry, n) => /** @type {const} */ ([String(n), entry.name]));
    /** @param {number} n */
    const maps = (n) => feed.targets[n].maps.map(({ name }) => /** @type {const} */ ([name, name]));
    fill(target.select, targets, String(state.target));
    fill(map.select, maps(state.target), state.map);
    fill(otherTarget.select, targets, String(state.otherTarget));
    fill(otherMap.select, [...maps(state.otherTarget), ["", "photo"]], state.otherMap);
    target.box.hidden = targets.length < 2;
    only.hidden = targets.length > 1;
    only.lastElementChild?.replaceChildren(feed.targets[0].name);
    otherTarget.box.hidden = targets.length < 2 || !split;
    otherMap.box.hidden = !split;
    target.box.firstChild?.replaceWith(h("span", {}, split ? "Class, left" : "Class"));
    map.box.firstChild?.replaceWith(h("span", {}, split ? "Map, left" : "Map"));
    const usual = feed.targets[state.target].smoothing;
    smoothing.input.max = String(Math.max(3, Math.ceil(2 * usual), state.smoothing));
    /** @type {(control: {input: HTMLInputElement, text: HTMLElement}, value: number, text: string) => void} */
    const show = (control, value, text) => {
      control.input.value = String(value);
      control.input.setAttribute("aria-valuetext", text);
      control.text.textContent = text;
    };
    show(opacity, 100 * state.opacity, `${Math.round(100 * state.opacity)} %`);
    show(top, 10 * Math.sqrt(state.top), state.top >= 100 ? "all" : `top ${percent(state.top / 100)}`);
    show(smoothing, state.smoothing, state.smoothing > 0 ? `${state.smoothing.toFixed(1)} px` : "none");
    gray.checked = state.gray;
    size.textContent = `${Math.round(100 * state.zoom)} %`;
    size.setAttribute("aria-label", `Zoom ${size.textContent}, show everything`);
    divider.hidden = !split;
    divider.style.left = `${100 * state.divider}%`;
    divider.setAttribute("aria-valuenow", String(Math.round(100 * state.divider)));
    const onPhoto = state.view === "over" || split;
    const measured = state.view !== "photo" && sides().some((layer) => layer && !layer.isClass);
    top.input.disabled = smoothing.input.disabled = !measured;
    opacity.input.disabled = !onPhoto;
    gray.disabled = !onPhoto;
    canvas.style.touchAction = state.zoom > 1 ? "none" : "pan-y";
    schedule();
  };

  // Drawing

  const schedule = () => {
    if (frame === 0) frame = requestAnimationFrame(draw);
  };

  /** The left or only map, and the right one; null is the photo. */
  const sides = () => {
    if (!content) return [];
    /** @param {number} n @param {string} name */
    const layer = (n, name) => content?.layers[n].find((entry) => entry.map.name === name) ?? null;
    const left = layer(state.target, state.map);
    return state.view === "split" ? [left, layer(state.otherTarget, state.otherMap)] : [left];
  };

  /** @param {Layer} layer */
  const limitOf = (layer) => {
    const sigma = state.smoothing;
    if (state.limits === "own" || !content) return layer.limit(sigma);
    const measured = content.layers.flat().filter(({ map }) => ["magnitude", "signed"].includes(map.kind));
    return Math.max(...measured.map((entry) => entry.limit(sigma)));
  };

  /** @param {number} width @param {number} height @returns {Place} */
  const placeIn = (width, height) => {
    const world = content?.world ?? worldOf(feed);
    const fit = Math.min(width / world.width, height / world.height);
    const scale = fit * Math.min(state.zoom, zoomMax(fit));
    /** @type {(room: number, length: number, middle: number) => number} */
    const start = (room, length, middle) =>
      length <= room ? (room - length) / 2 : clamp(room / 2 - middle * length, room - length, 0);
    return {
      scale,
      dx: start(width, world.width * scale, state.x) - world.left * scale,
      dy: start(height, world.height * scale, state.y) - world.top * scale,
    };
  };
  /** Up to 48 canvas pixels for one of the photo. @param {number} fit */
  const zoomMax = (fit) => Math.max(8, 48 / fit);
  const place = () => placeIn(canvas.width, canvas.height);

  /**
   * @param {CanvasRenderingContext2D} context
   * @param {Place} at
   * @param {boolean} isGray
   * @param {Box | null} crop What lies outside is faded.
   */
  const drawPhoto = (context, at, isGray, crop) => {
    if (!content) return;
    const { photo } = content;
    const { width, height } = feed.photo;
    if (isGray) grayPhoto ??= grayed(photo, feed.colors);
    context.imageSmoothingEnabled = (at.scale * width) / photo.naturalWidth < 3;
    context.imageSmoothingQuality = "high";
    context.drawImage((isGray && grayPhoto) || photo, at.dx, at.dy, width * at.scale, height * at.scale);
    if (!crop) return;
    context.fillStyle = "rgba(14, 16, 20, 0.5)";
    context.save();
    context.clip(outsideOf(at, crop), "evenodd");
    context.fillRect(at.dx, at.dy, width * at.scale, height * at.scale);
    context.restore();
  };

  /** @param {Place} at @param {Box} box @returns {[number, number, number, number]} */
  const boxOf = (at, { left, top, right, bottom }) => [
    at.dx + left * at.scale,
    at.dy + top * at.scale,
    (right - left) * at.scale,
    (bottom - top) * at.scale,
  ];

  /** @param {Place} at @param {Box} box */
  const outsideOf = (at, box) => {
    const path = new Path2D();
    path.rect(-1e6, -1e6, 2e6, 2e6);
    path.rect(...boxOf(at, box));
    return path;
  };

  /**
   * The photo as it lies below a map, kept while only the map changes.
   *
   * @param {CanvasRenderingContext2D} context
   * @param {Place} at
   * @param {boolean} isGray
   * @param {Box | null} crop
   */
  const drawGround = (context, at, isGray, crop) => {
    const { width, height } = context.canvas;
    const key = JSON.stringify([width, height, at, crop]);
    const known = grounds.get(isGray) ?? { key: "", canvas: document.createElement("canvas") };
    if (known.key !== key) {
      Object.assign(known.canvas, { width, height });
      drawPhoto(context2d(known.canvas), at, isGray, crop);
      known.key = key;
      grounds.set(isGray, known);
    }
    context.drawImage(known.canvas, 0, 0);
  };

  /**
   * @param {CanvasRenderingContext2D} context
   * @param {Place} at
   * @param {Layer} layer
   * @param {boolean} over
   */
  const drawMap = (context, at, layer, over) => {
    const { crop } = layer.target;
    layer.paint({ sigma: state.smoothing, top: state.top, limit: layer.isClass ? 0 : limitOf(layer), over });
    const pixel = ((crop.right - crop.left) * at.scale) / layer.map.width;
    const soft = state.smoothing > 0 && !layer.isClass;
    context.imageSmoothingEnabled = pixel < (soft ? NEAR : 1);
    context.globalAlpha = over ? state.opacity : 1;
    context.drawImage(layer.canvas, ...boxOf(at, crop));
    context.globalAlpha = 1;
  };

  /**
   * Everything, on any canvas: the screen's, or that of a download.
   *
   * @param {CanvasRenderingContext2D} context
   * @param {Place} at
   * @param {number} middle Where the divider is.
   * @param {typeof drawPhoto} ground
   */
  const compose = (context, at, middle, ground) => {
    const { width, height } = context.canvas;
    context.clearRect(0, 0, width, height);
    const shown = sides();
    shown.forEach((layer, side) => {
      context.save();
      context.beginPath();
      if (shown.length === 2) context.rect(side * middle, 0, side ? width - middle : middle, height);
      else context.rect(0, 0, width, height);
      context.clip();
      const map = state.view === "photo" ? null : layer;
      if (state.view !== "map") ground(context, at, state.gray && map !== null, layer && layer.target.crop);
      if (map) drawMap(context, at, map, state.view !== "map");
      context.restore();
    });
  };

  const draw = () => {
    frame = 0;
    if (!content || canvas.width === 0) return;
    const context = context2d(canvas);
    const at = place();
    compose(context, at, Math.round(state.divider * canvas.width), drawGround);
    if (probe?.mark) drawMark(context, at);
    describe();
    drawLegends();
    drawAnswers();
  };

  /** @param {CanvasRenderingContext2D} context @param {Place} at */
  const drawMark = (context, at) => {
    const [layer] = sides();
    if (!probe || !layer) return;
    const { crop, map } = { crop: layer.target.crop, map: layer.map };
    const [left, top, width, height] = boxOf(at, crop);
    const [w, h] = [width / map.width, height / map.height];
    const side = Math.max(0, (9 - w) / 2);
    const box = /** @type {const} */ ([left + probe.x * w - side, top + probe.y * h - side, w + 2 * side, h + 2 * side]);
    for (const [color, line] of /** @type {const} */ ([["#000", 4], ["#fff", 2]])) {
      context.strokeStyle = color;
      context.lineWidth = line;
      context.strokeRect(...box);
    }
  };

  const describe = () => {
    const shown = sides().filter((layer) => layer !== null);
    tags.forEach((tag, side) => {
      tag.hidden = state.view !== "split";
      const layer = sides()[side];
      tag.textContent = layer ? `${layer.map.name}${feed.targets.length > 1 ? ` · ${layer.target.label}` : ""}` : "photo";
    });
    const about = state.view === "photo" ? "the photo" : shown.map((l) => `${l.map.name} map for ${l.target.label}`).join(" and ");
    canvas.setAttribute("aria-label", `${feed.title}: ${about}`);
    if (!probe) readout.textContent = "Point at the picture to read a pixel.";
    else if (probe.x < 0) readout.textContent = "Outside what the network saw.";
    else {
      const { x, y } = probe;
      const says = shown.map((layer) => layer.describe(scaled(x, shown[0].map.width, layer.map.width), scaled(y, shown[0].map.height, layer.map.height), state.smoothing));
      readout.textContent = `${says.join("; ")} · pixel ${x}, ${y}`;
    }
  };
  /** @param {number} n @param {number} from @param {number} to */
  const scaled = (n, from, to) => Math.min(to - 1, Math.floor(((n + 0.5) * to) / from));

  let drawn = "";
  const drawLegends = () => {
    const layers = state.view === "photo" ? [] : sides().filter((layer) => layer !== null);
    const unique = [...new Set(layers)];
    const key = JSON.stringify([state.view === "map", unique.map((l) => [l.target.name, l.map.name, l.isClass ? 0 : limitOf(l)])]);
    if (key === drawn) return;
    drawn = key;
    legends.replaceChildren(...unique.map((layer) => legend(layer, state.view !== "map")));
  };

  /** @param {Layer} layer @param {boolean} over */
  const legend = (layer, over) => {
    const box = h("div", { class: "cv-legend" }, h("p", {}, h("strong", {}, layer.map.name), ` ${layer.map.reads}`));
    if (layer.isClass) {
      const list = h("ul", { class: "cv-classes" });
      const rows = [
        ...layer.map.classes.map(({ label, color }) => /** @type {const} */ ([label, color])),
        /** @type {const} */ (["other classes", feed.colors.other]),
        /** @type {const} */ (["a tie", feed.colors.zero]),
      ];
      const counts = layer.counts();
      rows.forEach(([label, color], n) => {
        if (counts[n] === 0) return;
        const chip = h("i");
        chip.style.background = css(color);
        list.append(h("li", {}, chip, h("span", {}, label), h("span", {}, percent(counts[n] / layer.codes.length))));
      });
      box.append(list);
      return box;
    }
    const { ramps, hues, gray: [black, white] } = feed.colors;
    const zero = /** @type {Color} */ ([black + white / 2, black + white / 2, black + white / 2]);
    /** @param {Helps} helps */
    const stops = (helps) => (over ? [zero, hues[helps]] : ramps[helps]);
    const one = layer.map.kind === "magnitude";
    const colors = one ? stops(layer.map.helps) : [...[...stops("darker")].reverse(), ...stops("brighter").slice(1)];
    const bar = h("div", { class: "cv-scale" });
    bar.style.background = `linear-gradient(90deg, ${colors.map(css).join(", ")})`;
    const limit = short(limitOf(layer));
    /** @param {string[]} texts */
    const ends = (texts) => h("p", { class: "cv-ends" }, ...texts.map((text) => h("span", {}, text)));
    const { helps } = layer.map;
    box.append(bar, ends(one ? ["0", `${limit} or more`] : [`\u2212${limit}`, "0", `+${limit}`]));
    if (!one) box.append(ends(["darker helps", "brighter helps"]));
    else if (helps !== "either") box.append(ends(["", `${helps} helps`]));
    return box;
  };

  /** @type {FeedTarget | null} */
  let answered = null;
  const drawAnswers = () => {
    const { predictions, label } = feed.targets[state.target];
    if (answered === feed.targets[state.target]) return;
    answered = feed.targets[state.target];
    const rows = predictions.map((row) => {
      const bar = h("i");
      bar.style.width = `${100 * row.probability}%`;
      const name = h(row.label === label ? "b" : "span", {}, row.label);
      return h("li", {}, name, h("span", {}, percent(row.probability)), bar);
    });
    answers.replaceChildren(...rows);
  };

  // Pointer and keys

  /** @param {MouseEvent} event */
  const onCanvas = (event) => {
    const box = canvas.getBoundingClientRect();
    const ratio = canvas.width / box.width;
    return { x: (event.clientX - box.left) * ratio, y: (event.clientY - box.top) * ratio };
  };

  /** @param {{x: number, y: number}} point @param {boolean} mark */
  const probeAt = (point, mark) => {
    const [layer] = sides();
    if (!layer) return;
    const [left, top, width, height] = boxOf(place(), layer.target.crop);
    const x = Math.floor(((point.x - left) / width) * layer.map.width);
    const y = Math.floor(((point.y - top) / height) * layer.map.height);
    const inside = x >= 0 && y >= 0 && x < layer.map.width && y < layer.map.height;
    probe = inside ? { x, y, mark } : { x: -1, y: -1, mark: false };
    schedule();
  };

  /** Zoom about a point of the canvas. @param {number} factor @param {{x: number, y: number}} [about] */
  const zoomBy = (factor, about = { x: canvas.width / 2, y: canvas.height / 2 }) => {
    if (!content) return;
    const { world } = content;
    const fit = Math.min(canvas.width / world.width, canvas.height / world.height);
    const zoom = clamp(state.zoom * factor, 1, zoomMax(fit));
    const at = place();
    const scale = fit * zoom;
    const x = (about.x - at.dx) / at.scale - world.left + (canvas.width / 2 - about.x) / scale;
    const y = (about.y - at.dy) / at.scale - world.top + (canvas.height / 2 - about.y) / scale;
    moveTo(x / world.width, y / world.height, zoom);
  };

  /** Show a middle; it stays where the picture fills the canvas. @param {number} x @param {number} y @param {number} zoom */
  const moveTo = (x, y, zoom) => {
    if (!content) return;
    const { world } = content;
    const scale = zoom * Math.min(canvas.width / world.width, canvas.height / world.height);
    const [w, h] = [canvas.width / scale / world.width / 2, canvas.height / scale / world.height / 2];
    change({
      zoom,
      x: w >= 0.5 ? 0.5 : clamp(x, w, 1 - w),
      y: h >= 0.5 ? 0.5 : clamp(y, h, 1 - h),
    });
  };

  /** @param {number} dx @param {number} dy */
  const pan = (dx, dy) => {
    if (!content || state.zoom === 1) return;
    const { scale } = place();
    moveTo(state.x - dx / scale / content.world.width, state.y - dy / scale / content.world.height, state.zoom);
  };

  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, onCanvas(event));
  });
  canvas.addEventListener("pointermove", (event) => {
    const now = onCanvas(event);
    const before = pointers.get(event.pointerId);
    if (before) {
      const other = [...pointers].find(([key]) => key !== event.pointerId)?.[1];
      pointers.set(event.pointerId, now);
      if (other) {
        const spread = Math.hypot(now.x - other.x, now.y - other.y) / Math.hypot(before.x - other.x, before.y - other.y);
        if (Number.isFinite(spread) && spread > 0) zoomBy(spread, { x: (now.x + other.x) / 2, y: (now.y + other.y) / 2 });
      } else pan(now.x - before.x, now.y - before.y);
    }
    probeAt(now, event.pointerType !== "mouse");
  });
  for (const name of /** @type {const} */ (["pointerup", "pointercancel"])) {
    canvas.addEventListener(name, (event) => {
      pointers.delete(event.pointerId);
      if (name === "pointerup") probeAt(onCanvas(event), event.pointerType !== "mouse");
    });
  }
  canvas.addEventListener("pointerleave", () => {
    if (probe?.mark) return;
    probe = null;
    schedule();
  });
  canvas.addEventListener("dblclick", (event) => zoomBy(2, onCanvas(event)));
  canvas.addEventListener(
    "wheel",
    (event) => {
      if (!event.ctrlKey && !event.metaKey) return;
      event.preventDefault();
      zoomBy(Math.exp(-event.deltaY * 0.003), onCanvas(event));
    },
    { passive: false },
  );
  canvas.addEventListener("keydown", (event) => {
    /** @type {Record<string, [number, number]>} */
    const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key in steps) moveProbe(...steps[event.key], event.shiftKey ? 10 : 1);
    else if (event.key === "+" || event.key === "=") zoomBy(1.5, probePoint());
    else if (event.key === "-") zoomBy(1 / 1.5, probePoint());
    else if (event.key === "0") change({ zoom: 1, x: 0.5, y: 0.5 });
    else if (event.key === "Escape") {
      probe = null;
      schedule();
    } else return;
    event.preventDefault();
  });

  /** @param {number} dx @param {number} dy @param {number} step */
  const moveProbe = (dx, dy, step) => {
    const [layer] = sides();
    if (!layer) return;
    const { width, height } = layer.map;
    if (!probe || probe.x < 0) {
      probeAt({ x: canvas.width / 2, y: canvas.height / 2 }, true);
      return;
    }
    probe = {
      x: clamp(probe.x + dx * step, 0, width - 1),
      y: clamp(probe.y + dy * step, 0, height - 1),
      mark: true,
    };
    const point = probePoint();
    const margin = 0.1;
    /** @type {(value: number, room: number) => number} */
    const beyond = (value, room) => Math.min(0, value - margin * room) + Math.max(0, value - (1 - margin) * room);
    const out = point && [beyond(point.x, canvas.width), beyond(point.y, canvas.height)];
    if (out && (out[0] || out[1])) pan(-out[0], -out[1]);
    schedule();
  };

  /** Where the cursor is on the canvas. */
  const probePoint = () => {
    const [layer] = sides();
    if (!probe || probe.x < 0 || !layer) return undefined;
    const [left, top, width, height] = boxOf(place(), layer.target.crop);
    return { x: left + ((probe.x + 0.5) / layer.map.width) * width, y: top + ((probe.y + 0.5) / layer.map.height) * height };
  };

  divider.addEventListener("pointerdown", (event) => {
    divider.setPointerCapture(event.pointerId);
    divider.focus();
    event.preventDefault();
  });
  divider.addEventListener("pointermove", (event) => {
    if (divider.hasPointerCapture(event.pointerId)) change({ divider: onCanvas(event).x / canvas.width });
  });
  divider.addEventListener("keydown", (event) => {
    const step = event.shiftKey ? 0.1 : 0.01;
    /** @type {Record<string, number>} */
    const places = {
      ArrowLeft: state.divider - step,
      ArrowDown: state.divider - step,
      ArrowRight: state.divider + step,
      ArrowUp: state.divider + step,
      PageDown: state.divider - 0.1,
      PageUp: state.divider + 0.1,
      Home: 0,
      End: 1,
    };
    if (!(event.key in places)) return;
    event.preventDefault();
    change({ divider: places[event.key] });
  });

  // Files

  const picture = async () => {
    await ready;
    const page = document.createElement("canvas");
    Object.assign(page, { width: feed.photo.width, height: feed.photo.height });
    const { scale, dx } = place();
    compose(context2d(page), { scale: 1, dx: 0, dy: 0 }, (state.divider * canvas.width - dx) / scale, drawPhoto);
    return new Promise((/** @type {(blob: Blob) => void} */ done, fail) => {
      page.toBlob((blob) => (blob ? done(blob) : fail(new Error("the picture is too large"))), "image/png");
    });
  };

  const save = async () => {
    const address = URL.createObjectURL(await picture());
    const shown = { over: state.map, map: state.map, photo: "photo", split: `${state.map}-${state.otherMap || "photo"}` };
    h("a", { href: address, download: `${feed.title.replace(/\.\w+$/, "")}-${shown[state.view]}.png` }).click();
    setTimeout(() => URL.revokeObjectURL(address), 1000);
  };

  const resize = () => {
    const ratio = window.devicePixelRatio || 1;
    const [width, height] = [Math.round(stage.clientWidth * ratio), Math.round(stage.clientHeight * ratio)];
    if (width === canvas.width && height === canvas.height) return;
    Object.assign(canvas, { width, height });
    draw();
  };
  const watch = new ResizeObserver(resize);

  /** @param {Feed} next */
  const update = async (next) => {
    const mine = ++turn;
    const decoded = await loaded(next);
    if (mine !== turn) return;
    feed = next;
    content = decoded;
    grayPhoto = null;
    grounds.clear();
    drawn = "";
    stage.style.aspectRatio = `${decoded.world.width} / ${decoded.world.height}`;
    root.setAttribute("aria-label", `Viewer: ${feed.title}`);
    state = fitting(feed, { ...state });
    sync();
  };

  element.replaceChildren(root);
  const { width, height } = worldOf(feed);
  stage.style.aspectRatio = `${width} / ${height}`;
  watch.observe(stage);
  resize();
  sync();
  const ready = update(feed);
  return {
    ready,
    update,
    picture,
    set: (patch) => {
      state = fitting(feed, { ...state, ...patch });
      sync();
    },
    get: () => ({ ...state }),
    destroy: () => {
      turn++;
      cancelAnimationFrame(frame);
      watch.disconnect();
      root.remove();
    },
  };
}

// Notebook

/** @param {{model: Model, el: HTMLElement}} widget */
export function render({ model, el }) {
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
