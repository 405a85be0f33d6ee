// @ts-check
/** The live page: photos in, questions to the server, answers into viewers. */

import { mount } from "../viewer/viewer.js";

/** @typedef {{index: number, label: string, logit: number, probability: number, asked?: string}} Prediction */
/** @typedef {{name: string, reads: string}} Named */
/** @typedef {{models: string[], methods: Named[], maps: Named[], orders: string[], fills: Named[], samples: string[]}} Choices */
/** @typedef {{photo: string, name: string, width: number, height: number, notes: string[]}} Photo */
/** @typedef {{model?: string, target?: string, rivals?: string, region?: string, method?: string, share?: number, map?: string, fill?: string, view?: object}} PaneState */

const TAB = crypto.getRandomValues(new Uint32Array(4)).join("-");
const SETTLED = 350; // milliseconds without typing before a question is asked

/**
 * @template {Element} [E=HTMLElement]
 * @param {ParentNode} root @param {string} selector @returns {E}
 */
function find(root, selector) {
  const found = root.querySelector(selector);
  if (!found) throw new Error(`no ${selector}`);
  return /** @type {any} */ (found);
}

/** @param {string} tag @param {string} [text] @param {string} [name] */
function make(tag, text = "", name = "") {
  const made = document.createElement(tag);
  made.textContent = text;
  if (name) made.className = name;
  return made;
}

/** @param {number} value */
const percent = (value) => `${(100 * value).toFixed(value > 0 && value < 0.01 ? 2 : 1)} %`;
/** A slider's place 0..100 as a share of the pixels, 0.1 % to 100 %, each step as large a ratio. @param {number} place */
const shareOf = (place) => Math.min(0.999, Number((10 ** (-3 + (3 * place) / 100)).toPrecision(2)));
/** @param {number} share */
const placeOf = (share) => Math.round((100 * (Math.log10(share) + 3)) / 3);

/** Ask the server; a refusal is an Error with its one line.
 * @param {string} path @param {RequestInit} [init] */
async function ask(path, init) {
  let response;
  try {
    response = await fetch(path, init);
  } catch (error) {
    if (/** @type {Error} */ (error).name === "AbortError") throw error;
    throw new Error("the server does not answer: is chiaroscuro serve still running?");
  }
  if (response.ok) return response;
  const text = await response.text();
  let message = text;
  try { message = JSON.parse(text).message; } catch { /* plain text */ }
  throw new Error(message || `the server answers ${response.status}`);
}

/** The messages of a computation, one a line. @param {string} path @param {object} question @param {AbortSignal} signal */
async function* messages(path, question, signal) {
  const response = await ask(path, { method: "POST", body: JSON.stringify(question), signal });
  const reader = /** @type {ReadableStream<Uint8Array>} */ (response.body).getReader();
  const decoder = new TextDecoder();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const lines = (rest + decoder.decode(value, { stream: true })).split("\n");
    rest = /** @type {string} */ (lines.pop());
    for (const line of lines) yield JSON.parse(line);
  }
}

/** @type {Choices} */
let choices;
/** @type {Promise<void>} */
let ready; // once the choices are known and the panes stand
/** @type {Photo | null} */
let photo = null;
let taken = 0; // photos given so far: the newest is shown, whichever is read first
/** @type {Pane[]} */
const panes = [];
/** @type {Map<string, Promise<string[]>>} */
const classNames = new Map();

/** @param {string} model */
function classesOf(model) {
  let names = classNames.get(model);
  if (!names) {
    names = ask(`/api/classes?model=${encodeURIComponent(model)}`).then((response) => response.json());
    names.catch(() => classNames.delete(model));
    classNames.set(model, names);
  }
  return names;
}

/** One question with its answer: controls, viewer, what-if. */
class Pane {
  /** @param {number} number @param {PaneState} state */
  constructor(number, state) {
    this.number = number;
    const template = /** @type {HTMLTemplateElement} */ (document.getElementById("pane"));
    this.root = /** @type {HTMLElement} */ (template.content.cloneNode(true)).querySelector("section");
    const root = /** @type {HTMLElement} */ (this.root);
    this.question = /** @type {HTMLFormElement} */ (find(root, ".question"));
    this.changes = /** @type {HTMLFormElement} */ (find(root, ".change form"));
    this.answer = "";
    this.view = state.view;
    /** @type {ReturnType<typeof mount> | null} */
    this.viewer = null;
    /** @type {AbortController | null} */
    this.explaining = null;
    /** @type {AbortController | null} */
    this.changing = null;
    this.again = false; // another change was asked for while one is computed
    this.timer = 0;
    this.fillIn(state);
    this.question.addEventListener("input", (event) => {
      clearTimeout(this.timer);
      const typed = event.target instanceof HTMLInputElement;
      this.timer = setTimeout(() => this.explain(), typed ? SETTLED : 0);
    });
    this.question.addEventListener("submit", (event) => { event.preventDefault(); this.explain(); });
    this.changes.addEventListener("submit", (event) => event.preventDefault());
    this.changes.addEventListener("input", () => this.change());
    find(root, ".stop").addEventListener("click", () => this.stop());
    const close = find(root, ".close");
    close.hidden = number === 0;
    close.addEventListener("click", () => closePane(this));
    for (const button of root.querySelectorAll("[data-copy]")) {
      button.addEventListener("click", () => copy(find(root, `.${/** @type {HTMLElement} */ (button).dataset.copy}`).textContent ?? "", button));
    }
  }

  /** @param {PaneState} state */
  fillIn(state) {
    const list = find(/** @type {HTMLElement} */ (this.root), "datalist");
    list.id = `classes-${this.number}`;
    this.input("target").setAttribute("list", list.id);
    options(this.select("model"), choices.models.map((name) => [name, name]));
    options(this.select("method"), choices.methods.map((one) => [one.name, `${one.name}: ${one.reads}`]));
    options(this.select("map", this.changes), choices.orders.map((name) => [name, name]));
    options(this.select("fill", this.changes), choices.fills.map((one) => [one.name, `${one.name}: ${one.reads}`]));
    /** @type {[HTMLFormElement, string, string | undefined][]} */
    const given = [
      [this.question, "model", state.model], [this.question, "method", state.method],
      [this.changes, "map", state.map ?? "active"], [this.changes, "fill", state.fill],
    ];
    for (const [form, name, value] of given) {
      const control = this.select(name, form);
      if (value !== undefined && [...control.options].some((one) => one.value === value)) control.value = value;
    }
    this.input("target").value = state.target ?? "";
    this.input("rivals").value = state.rivals ?? "";
    this.input("region").value = state.region ?? "";
    this.input("share", this.changes).value = String(placeOf(state.share ?? 0.05));
    find(/** @type {HTMLElement} */ (this.root), ".share").textContent = percent(this.share());
  }

  /** @param {string} name @param {HTMLFormElement} [form] */
  input(name, form = this.question) { return /** @type {HTMLInputElement} */ (form.elements.namedItem(name)); }
  /** @param {string} name @param {HTMLFormElement} [form] */
  select(name, form = this.question) { return /** @type {HTMLSelectElement} */ (form.elements.namedItem(name)); }
  share() { return shareOf(Number(this.input("share", this.changes).value)); }

  /** @returns {PaneState} */
  state() {
    return {
      model: this.select("model").value, target: this.input("target").value.trim(), rivals: this.input("rivals").value.trim(),
      region: this.input("region").value.trim(), method: this.select("method").value, share: this.share(), map: this.select("map", this.changes).value,
      fill: this.select("fill", this.changes).value, view: this.viewer?.get() ?? this.view,
    };
  }

  /** Ask for an explanation; an older question of this pane ends. */
  async explain() {
    clearTimeout(this.timer);
    if (!photo) return;
    this.explaining?.abort();
    this.changing?.abort();
    const own = (this.explaining = new AbortController());
    const state = this.state();
    this.showError("");
    this.showRunning("starting", undefined);
    this.listClasses(state.model ?? "");
    const question = {
      photo: photo.photo, model: state.model, tab: TAB, pane: this.number,
      target: state.target || null, rivals: state.rivals || "all", region: state.region, method: state.method,
    };
    try {
      for await (const message of messages("/api/explain", question, own.signal)) {
        if (own !== this.explaining) return;
        if (message.state === "waiting") this.showRunning(message.ahead ? `${message.ahead} before this one` : "starting", undefined);
        else if (message.state === "progress") this.showRunning(`class ${message.done} of ${message.total}`, message.done / message.total);
        else if (message.state === "explained") {
          this.showExplanation(message);
          if (!message.whole) this.showRunning(message.stored ? "now the other maps" : "now against all others", undefined);
        }
        else if (message.state === "error") this.showError(message.message);
        else if (message.state === "stopped") this.showError(message.message);
      }
    } catch (error) {
      if (/** @type {Error} */ (error).name !== "AbortError" && own === this.explaining) this.showError(/** @type {Error} */ (error).message);
    } finally {
      if (own === this.explaining) this.settle();
    }
  }

  /** Nothing runs any more: what is shown stays as it is. */
  settle() {
    this.showRunning("", undefined);
    const few = /** @type {HTMLElement} */ (this.root).querySelector(".few");
    if (few) few.textContent = `compared with the ${/** @type {HTMLElement} */ (few).dataset.compared} best rivals only`;
  }

  /** The server ends what nobody reads any more. */
  stop() {
    this.explaining?.abort();
    this.explaining = null;
    this.settle();
  }

  /** @param {string} model */
  async listClasses(model) {
    const list = find(/** @type {HTMLElement} */ (this.root), "datalist");
    if (list.dataset.model === model) return;
    try {
      const names = await classesOf(model);
      list.replaceChildren(...names.map((name) => Object.assign(document.createElement("option"), { value: name })));
      list.dataset.model = model;
    } catch { /* the question itself says what is wrong */ }
  }

  /** @param {any} message */
  showExplanation(message) {
    const root = /** @type {HTMLElement} */ (this.root);
    this.answer = message.answer;
    if (this.viewer) this.viewer.update(message.feed);
    else {
      this.viewer = mount(find(root, ".viewer"), message.feed);
      if (this.view) this.viewer.set(this.view);
    }
    const classes = find(root, ".classes"), chosen = classes.contains(document.activeElement);
    classes.replaceChildren(...message.predictions.map((/** @type {Prediction} */ one) => {
      const item = document.createElement("li");
      const button = make("button", `${one.label} ${percent(one.probability)}`);
      button.setAttribute("type", "button");
      button.setAttribute("aria-pressed", String(one.index === message.target.index));
      button.title = "Explain this class";
      button.addEventListener("click", () => { this.input("target").value = one.asked ?? one.label; this.explain(); });
      item.append(button);
      return item;
    }));
    if (chosen) find(classes, classes.querySelector("[aria-pressed=true]") ? "[aria-pressed=true]" : "button").focus(); // the keyboard stays where it was
    const notes = message.notes.map((/** @type {string} */ note) => make("li", note));
    if (!message.whole && !message.stored) {
      notes.unshift(make("li", `compared with the ${message.compared} best rivals; all others follow`, "few"));
      notes[0].dataset.compared = message.compared;
    }
    find(root, ".notes").replaceChildren(...notes);
    find(root, ".change").hidden = false;
    this.showCommands(message.commands);
    /** @type {HTMLAnchorElement} */ (find(root, ".zip")).href = `/api/result.zip?answer=${encodeURIComponent(message.answer)}`;
    this.change();
  }

  /** Ask what a change of the photo does; only the newest answer is shown. */
  async change() {
    const root = /** @type {HTMLElement} */ (this.root);
    find(root, ".share").textContent = percent(this.share());
    if (!this.answer) return;
    if (this.changing) { this.again = true; return; } // one at a time: the newest follows
    const own = (this.changing = new AbortController());
    const state = this.state();
    const question = { answer: this.answer, tab: TAB, pane: this.number, map: state.map, fraction: state.share, fill: state.fill };
    try {
      for await (const message of messages("/api/change", question, own.signal)) {
        if (message.state === "changed") this.showChange(message);
        else if (message.state === "error") this.showError(message.message);
      }
    } catch (error) {
      if (/** @type {Error} */ (error).name !== "AbortError") this.showError(/** @type {Error} */ (error).message);
    } finally {
      this.changing = null;
      if (this.again) { this.again = false; this.change(); }
    }
  }

  /** @param {any} message */
  showChange(message) {
    const root = /** @type {HTMLElement} */ (this.root);
    /** @type {HTMLImageElement} */ (find(root, ".edited")).src = message.edited;
    find(root, ".count").textContent = `${message.pixels.toLocaleString("en")} of ${message.of.toLocaleString("en")} pixels changed`;
    const sign = (/** @type {number} */ value) => `${value < 0 ? "\u2212" : "+"}${Math.abs(value).toFixed(2)}`;
    find(root, ".verdict").textContent =
      `${message.flipped ? `The prediction turns to ${message.best.label}.` : `The prediction stays ${message.best.label}.`} ` +
      `Logit of ${message.target.label}: predicted ${sign(message.predicted)}, actual ${sign(message.actual)}.`;
    const rows = message.shown.slice(0, 8).map((/** @type {{before: Prediction, after: Prediction}} */ one) => {
      const row = document.createElement("tr");
      row.className = one.before.index === message.target.index ? "target" : "";
      const name = make("th", one.before.label);
      name.setAttribute("scope", "row");
      name.title = one.before.label;
      const track = make("td", "", "track");
      for (const [kind, value] of /** @type {[string, number][]} */ ([["before", one.before.probability], ["after", one.after.probability]])) {
        const bar = make("i", "", kind);
        bar.style.width = `${100 * value}%`;
        track.append(bar);
      }
      row.append(name, track, make("td", `${percent(one.before.probability)} \u2192 ${percent(one.after.probability)}`, "number"));
      return row;
    });
    find(root, ".bars tbody").replaceChildren(...rows);
    drawLine(find(root, ".line"), message);
    this.showCommands(message.commands);
  }

  /** @param {{shell: string, python: string}} commands */
  showCommands(commands) {
    const root = /** @type {HTMLElement} */ (this.root);
    find(root, ".again").hidden = false;
    find(root, ".shell").textContent = commands.shell;
    find(root, ".python").textContent = commands.python;
    remember();
  }

  /** @param {string} where @param {number | undefined} share */
  showRunning(where, share) {
    const root = /** @type {HTMLElement} */ (this.root);
    const running = find(root, ".running");
    if (!where && running.contains(document.activeElement)) this.select("model").focus({ preventScroll: true });
    running.hidden = !where;
    find(root, ".where").textContent = where;
    const bar = /** @type {HTMLProgressElement} */ (find(root, "progress"));
    if (share === undefined) bar.removeAttribute("value");
    else bar.value = share;
  }

  /** @param {string} message */
  showError(message) {
    const place = find(/** @type {HTMLElement} */ (this.root), ".error");
    place.hidden = !message;
    place.textContent = message;
  }
}

/** @param {HTMLSelectElement} select @param {string[][]} rows */
function options(select, rows) {
  select.replaceChildren(...rows.map(([value, text]) => Object.assign(document.createElement("option"), { value, textContent: text })));
}

/** The target logit's change against the share of the change: predicted as a line, actual as a curve.
 * @param {Element} figure @param {{steps: number[], path: number[], predicted: number, valid_step: number}} change */
function drawLine(figure, change) {
  const svg = find(figure, "svg");
  const [left, right, top, bottom] = [34, 234, 8, 132];
  const values = [0, change.predicted, ...change.path];
  const low = Math.min(...values), high = Math.max(...values), size = high - low || 1;
  const x = (/** @type {number} */ step) => left + (right - left) * step;
  const y = (/** @type {number} */ value) => bottom - ((bottom - top) * (value - low)) / size;
  const draw = (/** @type {string} */ tag, /** @type {Record<string, string | number>} */ attributes, text = "") => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, String(value));
    made.textContent = text;
    return made;
  };
  const points = [[0, 0], ...change.steps.map((step, n) => [step, change.path[n]])];
  svg.setAttribute("aria-label", `Change of the logit along the way: predicted ${change.predicted.toFixed(2)}, actual ${change.path.at(-1)?.toFixed(2)}`);
  svg.replaceChildren(
    draw("rect", { class: "valid", x: left, y: top, width: (right - left) * change.valid_step, height: bottom - top }),
    draw("line", { class: "axis", x1: left, x2: right, y1: y(0), y2: y(0) }),
    draw("line", { class: "linear", x1: x(0), y1: y(0), x2: x(1), y2: y(change.predicted) }),
    draw("polyline", { class: "actual", points: points.map(([step, value]) => `${x(step)},${y(value)}`).join(" ") }),
    draw("text", { x: left - 4, y: y(high) + 4, "text-anchor": "end" }, high.toFixed(1)),
    draw("text", { x: left - 4, y: y(low) + 3, "text-anchor": "end" }, low.toFixed(1)),
    draw("text", { x: left, y: bottom + 14 }, "no change"),
    draw("text", { x: right, y: bottom + 14, "text-anchor": "end" }, "whole change"),
  );
  find(figure, "figcaption").textContent =
    `Logit along the way. Dashed: the linear prediction, right up to ${percent(change.valid_step)} of the change (shaded).`;
}

/** @param {string} text @param {Element} button */
async function copy(text, button) {
  const before = button.textContent;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {
    button.textContent = "Not allowed here";
  }
  setTimeout(() => { button.textContent = before; }, 1500);
}

/** @param {string} words @param {boolean} [wrong] */
function say(words, wrong = false) {
  const said = find(document, "#said");
  said.textContent = words;
  said.classList.toggle("wrong", wrong);
}

/** @param {() => Promise<Response>} upload @param {string} sample */
async function take(upload, sample) {
  const own = (taken += 1);
  say("reading the photo");
  /** @type {Photo} */
  let kept;
  try {
    kept = await (await upload()).json();
    await ready;
  } catch (error) {
    if (own === taken) say(/** @type {Error} */ (error).message, true);
    return;
  }
  if (own !== taken) return; // a newer photo was given meanwhile
  photo = kept;
  const notes = kept.notes.length ? ` (${kept.notes.join(", ")})` : "";
  say(`${kept.name}, ${kept.width} x ${kept.height} px${notes}`);
  shown = sample ? { sample } : { name: kept.name };
  find(document, "#aside").hidden = find(document, "#link").hidden = false;
  for (const pane of panes) pane.explain();
}

/** @param {Blob} file @param {string} name */
const takeFile = (file, name) => take(() => ask(`/api/photos?name=${encodeURIComponent(name)}`, { method: "POST", body: file }), "");
/** @param {string} name */
const takeSample = (name) => take(() => ask("/api/samples", { method: "POST", body: JSON.stringify({ name }) }), name);

/** @type {{sample?: string, name?: string}} */
let shown = {};

/** Keep every setting in the address; a photo of the visitor's own is named there, never sent. */
function remember() {
  const state = { ...shown, panes: panes.map((pane) => pane.state()) };
  history.replaceState(null, "", `#${encodeURIComponent(JSON.stringify(state))}`);
}

/** @returns {{sample?: string, name?: string, panes?: PaneState[]}} */
function remembered() {
  try {
    const state = JSON.parse(decodeURIComponent(location.hash.slice(1)));
    return state && typeof state === "object" ? state : {};
  } catch {
    return {};
  }
}

/** @param {PaneState} state */
function openPane(state) {
  const pane = new Pane(panes.length, state);
  panes.push(pane);
  find(document, "#panes").append(/** @type {HTMLElement} */ (pane.root));
  find(document, "#panes").classList.toggle("two", panes.length > 1);
  find(document, "#aside").textContent = panes.length > 1 ? "One alone" : "Side by side";
  return pane;
}

/** @param {Pane} pane */
function closePane(pane) {
  pane.stop();
  pane.again = false;
  pane.changing?.abort();
  pane.viewer?.destroy();
  pane.root?.remove();
  panes.splice(panes.indexOf(pane), 1);
  find(document, "#panes").classList.remove("two");
  const aside = find(document, "#aside");
  aside.textContent = "Side by side";
  aside.focus({ preventScroll: true }); // the pane's own button is gone
  remember();
}

/** The panes as the address remembers them, and the photos to try; fails where the server does.
 * @param {ReturnType<typeof remembered>} state */
async function prepare(state) {
  choices = await (await ask("/api/choices")).json();
  const before = Array.isArray(state.panes) && state.panes.length ? state.panes.slice(0, 2) : [{}];
  for (const one of before) openPane(one);
  find(document, "#samples").append(...choices.samples.map((name) => {
    const button = make("button", name);
    button.setAttribute("type", "button");
    button.addEventListener("click", () => takeSample(name));
    return button;
  }));
}

function listen() {
  const file = /** @type {HTMLInputElement} */ (find(document, "#file"));
  file.addEventListener("change", () => { if (file.files?.[0]) takeFile(file.files[0], file.files[0].name); file.value = ""; });
  const drop = find(document, "#drop");
  for (const kind of ["dragover", "dragleave", "drop"]) {
    document.addEventListener(kind, (event) => { event.preventDefault(); drop.classList.toggle("over", kind === "dragover"); });
  }
  document.addEventListener("drop", (event) => {
    const given = event.dataTransfer?.files[0];
    if (given) takeFile(given, given.name);
    else say("that is no photo file: drop a file, or paste a picture", true);
  });
  document.addEventListener("paste", (event) => {
    const given = [...(event.clipboardData?.files ?? [])].find((one) => one.type.startsWith("image/"));
    if (given) takeFile(given, given.name || "pasted");
  });
  find(document, "#aside").addEventListener("click", () => {
    if (panes.length > 1) closePane(panes[1]);
    else openPane({ ...panes[0].state(), target: "" }).explain();
  });
  const link = find(document, "#link");
  link.addEventListener("click", () => { remember(); copy(location.href, link); });
}

async function start() {
  const state = remembered();
  ready = prepare(state);
  listen(); // at once: a photo that comes before the choices waits for them
  try {
    await ready;
  } catch (error) {
    say(/** @type {Error} */ (error).message, true);
    return;
  }
  if (taken) return;
  if (state.sample && choices.samples.includes(state.sample)) takeSample(state.sample);
  else if (state.name) say(`this link is about ${state.name}: give the same photo once more`);
}

start();
