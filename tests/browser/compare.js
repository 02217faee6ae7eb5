// SPDX-License-Identifier: GPL-2.0-only
//
// The same points drawn by chart libraries, for compare.py. Each gives a function that shows a part of the time, from 0
// to 1, and ends when the frame is drawn.

import { Deck, OrthographicView } from "@deck.gl/core";
import { ScatterplotLayer } from "@deck.gl/layers";
import Plotly from "plotly.js-gl2d-dist-min";
import createScatterplot from "regl-scatterplot";
import uPlot from "uplot";

const WIDTH = 1100;
const HEIGHT = 700;
const COLOURS = ["#0072b2", "#d55e00", "#009e73"];
const RGB = [[0, 114, 178], [213, 94, 0], [0, 158, 115]];

/** A column of the page. */
async function column(id, type) {
  const bytes = Uint8Array.from(atob(document.getElementById(id).textContent), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new type(await new Response(stream).arrayBuffer());
}

/** Waits until what was sent to WebGL is drawn. */
function finish(element) {
  for (const canvas of element.querySelectorAll("canvas")) {
    const gl = canvas.getContext("webgl2") ?? canvas.getContext("webgl");
    gl?.readPixels(0, 0, 1, 1, gl.RGBA, gl.UNSIGNED_BYTE, new Uint8Array(4));
  }
}

const LIBRARIES = {
  async uplot(element, { t, y, a }) {
    const series = COLOURS.map((stroke, access) => ({
      stroke,
      paths: () => null,
      points: { show: true, size: 2, fill: stroke },
      data: Array.from(y, (value, i) => (a[i] === access ? value : null)),
    }));
    const data = [t, ...series.map((one) => one.data)];
    const options = { width: WIDTH, height: HEIGHT, scales: { x: { time: false } }, legend: { show: false } };
    const plot = new uPlot({ ...options, series: [{}, ...series.map(({ data: _, ...one }) => one)] }, data, element);
    return async (from, to) => {
      plot.setScale("x", { min: from, max: to });
      await Promise.resolve();
    };
  },

  async plotly(element, { t, y, a }) {
    const traces = COLOURS.map((color, access) => {
      const mine = (_, i) => a[i] === access;
      return { type: "scattergl", mode: "markers", x: t.filter(mine), y: y.filter(mine), marker: { size: 2, color } };
    });
    await Plotly.newPlot(element, traces, { width: WIDTH, height: HEIGHT, showlegend: false });
    return async (from, to) => {
      await Plotly.relayout(element, { "xaxis.range": [from, to] });
      finish(element);
    };
  },

  async regl(element, { t, y, a }) {
    const canvas = document.createElement("canvas");
    element.append(canvas);
    const options = { canvas, width: WIDTH, height: HEIGHT, pointSize: 2, colorBy: "z", pointColor: COLOURS };
    const plot = createScatterplot(options);
    const all = { x: t.map((x) => 2 * x - 1), y: y.map((value) => 2 * value - 1), z: Array.from(a) };
    await plot.draw(all, { zDataType: "categorical" });
    return async (from, to) => {
      const area = { x: 2 * from - 1, y: -1, width: 2 * (to - from), height: 2 };
      await plot.zoomToArea(area, { transition: false });
      finish(element);
    };
  },

  async deck(element, { t, y, a }) {
    const places = new Float32Array(2 * t.length);
    const colours = new Uint8Array(4 * t.length);
    for (let i = 0; i < t.length; i++) {
      places.set([t[i], y[i]], 2 * i);
      colours.set([...RGB[a[i]], 255], 4 * i);
    }
    const attributes = { getPosition: { value: places, size: 2 }, getFillColor: { value: colours, size: 4 } };
    const layer = new ScatterplotLayer({ data: { length: t.length, attributes }, radiusUnits: "pixels", getRadius: 1 });
    const zoom = (from, to) => ({
      target: [(from + to) / 2, 0.5, 0],
      zoom: [Math.log2(WIDTH / (to - from)), Math.log2(HEIGHT)],
    });
    let drawn;
    const until = () => new Promise((resolve) => (drawn = resolve));
    const first = until();
    const deck = new Deck({
      parent: element,
      width: WIDTH,
      height: HEIGHT,
      views: new OrthographicView(),
      viewState: zoom(0, 1),
      layers: [layer],
      onAfterRender: () => drawn(),
    });
    await first;
    return async (from, to) => {
      const frame = until();
      deck.setProps({ viewState: zoom(from, to) });
      await frame;
      finish(element);
    };
  },
};

window.begin = async (name) => {
  const [t, y, a] = await Promise.all([column("t", Float32Array), column("y", Float32Array), column("a", Uint8Array)]);
  window.show = await LIBRARIES[name](document.getElementById("plot"), { t, y, a });
  await window.show(0, 1);
};
