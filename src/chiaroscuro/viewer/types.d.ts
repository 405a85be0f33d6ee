// The types of viewer.js, for the check of types alone. The feed is described in feed.py.

export type Color = [number, number, number];
export type Helps = "either" | "brighter" | "darker" | "supports" | "opposes";
export type Box = { left: number; top: number; right: number; bottom: number };

export interface FeedMap {
  name: string;
  reads: string;
  kind: "magnitude" | "signed" | "class" | "printed" | "regions";
  helps: Helps;
  width: number;
  height: number;
  peak: number;
  data: string;
  classes: { index: number; label: string; color: Color }[];
  /** Color limits that several photos share: without and with the usual smoothing. */
  limits: [number, number] | null;
  /** Of a map of regions: by code, what changing one costs the class, and a sentence. */
  regions: { value: number; says: string }[];
  /** What to conclude of the map. */
  says: string;
}

export interface FeedTarget {
  name: string;
  label: string;
  rivals: number;
  crop: Box;
  smoothing: number;
  predictions: { index: number; label: string; probability: number }[];
  maps: FeedMap[];
  /** Around the region whose scores they are for: the path of an SVG in photo pixels. */
  outline: string;
}

export interface Feed {
  title: string;
  photo: { uri: string; width: number; height: number };
  targets: FeedTarget[];
  colors: {
    ramps: Record<Helps, Color[]>;
    hues: Record<Helps, Color>;
    zero: Color;
    other: Color;
    gray: [number, number];
    luma: Color;
  };
  clip: number;
}

/** Everything that a person can set; plain values, so that a link can hold it. */
export interface State {
  view: "over" | "map" | "photo" | "split";
  /** Position in the feed. */
  target: number;
  map: string;
  otherTarget: number;
  /** Right of the divider; "" is the photo. */
  otherMap: string;
  /** 0 to 1. */
  opacity: number;
  /** The largest values that are shown, in percent of the pixels. */
  top: number;
  /** Standard deviation in map pixels. */
  smoothing: number;
  limits: "own" | "same" | "given";
  /** Whether the photo below a map is gray. */
  gray: boolean;
  /** Share of the width. */
  divider: number;
  /** 1 shows everything. */
  zoom: number;
  /** Middle of what is shown, as shares of width and height. */
  x: number;
  y: number;
}

export type Point = { x: number; y: number };

/** How a map is painted. */
export type Paint = { sigma: number; top: number; limit: number; over: boolean };

/** Photo pixels to canvas pixels. */
export type Place = { scale: number; dx: number; dy: number };

export interface Viewer {
  /** Resolves once the first feed is drawn. */
  ready: Promise<void>;
  update(feed: Feed): Promise<void>;
  set(state: Partial<State>): void;
  get(): State;
  /** The view as a PNG at photo size. */
  picture(): Promise<Blob>;
  destroy(): void;
}

/** What anywidget hands to `render`: it holds the feed and the state. */
export interface Model {
  get(name: string): any;
  set(name: string, value: unknown): void;
  save_changes(): void;
  on(name: string, act: () => void): void;
  off(name: string, act: () => void): void;
}
