// What every part of the page needs: the data, elements, figures as text, colours, charts.

const trace = JSON.parse(document.getElementById("trace-data").textContent);
const rows = trace.rows;
const SIDES = ["local", "accumulated"];

const byId = (id) => document.getElementById(id);

// Text is only ever set as text: names come from files that nobody vouches for.
function filled(made, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

const element = (tag, attributes = {}, ...children) =>
  filled(document.createElement(tag), attributes, children);

const drawing = (tag, attributes = {}, ...children) =>
  filled(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);

// Three significant digits, without an exponent where that is readable.
function figure(value) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  if (size !== 0 && (size < 0.001 || size >= 1e6)) return value.toExponential(2).replace(/\.?0+e/, "e");
  if (size >= 100 || Number.isInteger(value)) return Math.round(value).toString();
  return String(Number(value.toPrecision(3)));
}

// A sample's number, and where it stands in its stream.
function place(sample) {
  if (sample === null || sample === undefined) return "–";
  const steps = trace.stream_steps;
  return steps > 1 ? `${sample} (stream ${Math.floor(sample / steps)}, step ${sample % steps})` : String(sample);
}

// As many digits as float32 has, to tell close values apart.
const exact = (value) => (value === null ? "–" : String(Number(value.toPrecision(7))));

const count = (value) => value.toLocaleString("en-US");

const percent = (part, whole) => `${figure((100 * part) / Math.max(whole, 1))} %`;

const colour = (name) =>
  getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

const title = (row) => `${row.op} ${row.kind}`;

// A tooltip's lines, the first in bold, as an element.
function tip(first, ...lines) {
  const box = element("div", { class: "tip" }, element("b", {}, first));
  for (const line of lines) box.append(element("br"), line);
  return box;
}

const charts = new Map();

// Draw a chart into an element, again whenever the theme or the size changes.  `options` is called
// each time, so that colours are those of the theme.
function draw(target, options, prepare = () => {}) {
  const chart = echarts.init(target);
  const redraw = () => chart.setOption({ ...look(), ...options() }, { notMerge: true });
  redraw();
  prepare(chart);
  const watcher = new ResizeObserver(() => chart.resize());
  watcher.observe(target);
  charts.set(target, { chart, redraw, watcher });
  return chart;
}

function forget(within) {
  for (const [target, { chart, watcher }] of charts) {
    if (!within.contains(target)) continue;
    watcher.disconnect();
    chart.dispose();
    charts.delete(target);
  }
}

function look() {
  return {
    animation: false,
    aria: { enabled: true },
    color: [colour("local"), colour("accumulated")],
    textStyle: { color: colour("text"), fontFamily: "system-ui, sans-serif" },
    grid: { left: 8, right: 14, top: 30, bottom: 8, containLabel: true },
  };
}

function axis(options = {}) {
  const line = colour("line");
  return {
    nameLocation: "middle",
    nameGap: 28,
    axisLine: { lineStyle: { color: line } },
    axisTick: { lineStyle: { color: line } },
    splitLine: { lineStyle: { color: line } },
    nameTextStyle: { color: colour("muted") },
    ...options,
    axisLabel: { color: colour("muted"), hideOverlap: true, ...options.axisLabel },
  };
}

function tooltip(formatter, options = {}) {
  return {
    appendTo: "body",
    confine: true,
    backgroundColor: colour("surface"),
    borderColor: colour("line"),
    textStyle: { color: colour("text") },
    formatter,
    ...options,
  };
}

const legend = () => ({
  top: 0,
  right: 0,
  itemWidth: 14,
  itemHeight: 10,
  textStyle: { color: colour("muted") },
});

// What is selected; every part that shows it listens.
const listeners = [];
let selected = trace.first;

function select(row, { reveal = false } = {}) {
  if (!rows[row]) return;
  selected = row;
  // The address of a page that was just opened stays as it is, so that it opens at the verdict.
  if (row !== trace.first || location.hash) history.replaceState(null, "", `#op-${rows[row].op}`);
  for (const listener of listeners) listener(row, reveal);
}
