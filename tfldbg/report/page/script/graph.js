// The operators around the selected one.

const HOPS = { before: 3, after: 2 };
const MOST_NODES = 26;

// An operator is one node, however many outputs it has: that of its first row.
const firstRow = new Map();
rows.forEach((row, at) => firstRow.has(row.op) || firstRow.set(row.op, at));
const node = (at) => firstRow.get(rows[at].op);

const sources = rows.map(() => new Set());
const readers = rows.map(() => new Set());
rows.forEach((row, at) =>
  row.from.forEach((source) => {
    sources[node(at)].add(node(source));
    readers[node(source)].add(node(at));
  }),
);

function around(center) {
  const found = new Set([center]);
  const walk = (next, hops) => {
    let edge = [center];
    for (let hop = 0; hop < hops && found.size < MOST_NODES; hop += 1) {
      edge = [...new Set(edge.flatMap(next))].filter((at) => !found.has(at));
      edge.slice(0, MOST_NODES - found.size).forEach((at) => found.add(at));
    }
  };
  walk((at) => [...sources[at]], HOPS.before);
  walk((at) => [...readers[at]], HOPS.after);
  return [...found].sort((a, b) => a - b);
}

const shortened = (text, most) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);

function worded(at) {
  const row = rows[node(selected) === at ? selected : at];
  const { max_lsb: lsb, max_abs: largest } = row.local ?? {};
  const error = lsb !== null && lsb !== undefined ? `${figure(lsb)} LSB` : figure(largest);
  return [title(row), shortened(row.layer, 26), `local ${error}`, row.shape.join("×")];
}

const ruler = document.createElement("canvas").getContext("2d");

function widest(lines) {
  const width = (line, number) => {
    ruler.font = `${number ? "11px" : "650 12px"} ${getComputedStyle(document.body).fontFamily}`;
    return ruler.measureText(line).width;
  };
  return Math.max(...lines.map(width));
}

function layout(chosen) {
  const graph = new dagre.graphlib.Graph();
  graph.setGraph({ rankdir: "LR", nodesep: 14, ranksep: 28, marginx: 6, marginy: 6 });
  graph.setDefaultEdgeLabel(() => ({}));
  const add = (name, lines, about) => {
    graph.setNode(name, { ...about, lines, width: 28 + widest(lines), height: 14 + 16 * lines.length });
  };
  const within = new Set(chosen);
  for (const at of chosen) add(String(at), worded(at), { row: at, status: rows[at].status });
  for (const at of chosen) {
    const hidden = [...sources[at]].filter((source) => !within.has(source));
    for (const source of sources[at]) {
      if (within.has(source)) graph.setEdge(String(source), String(at));
    }
    for (const tensor of rows[at].reads.filter((index) => trace.inputs[index] !== undefined)) {
      const name = `input ${tensor}`;
      add(name, ["INPUT", shortened(trace.inputs[tensor], 16)], { status: "input" });
      graph.setEdge(name, String(at));
    }
    if (hidden.length) rest(graph, `before ${at}`, String(at), true);
    if ([...readers[at]].some((reader) => !within.has(reader))) rest(graph, `after ${at}`, String(at), false);
  }
  dagre.layout(graph);
  return graph;
}

// A small mark for operators that are left out.
function rest(graph, name, node, before) {
  graph.setNode(name, { lines: ["…"], width: 22, height: 22, status: null });
  if (before) graph.setEdge(name, node);
  else graph.setEdge(node, name);
}

function drawGraph() {
  const target = byId("graph");
  const graph = layout(around(node(selected)));
  const { width, height } = graph.graph();
  const arrow = drawing(
    "marker",
    { id: "arrow", viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 7, markerHeight: 7, orient: "auto" },
    drawing("path", { d: "M0 0L8 4L0 8z" }),
  );
  const picture = drawing("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": "operators and what they read" });
  picture.append(drawing("defs", {}, arrow));
  for (const edge of graph.edges()) {
    picture.append(drawing("path", { d: curve(graph.edge(edge).points), "marker-end": "url(#arrow)" }));
  }
  for (const name of graph.nodes()) picture.append(drawNode(graph.node(name)));
  target.replaceChildren(picture);
  byId("graph-center").textContent = title(rows[selected]);
  const center = graph.node(String(node(selected)));
  target.scrollLeft = center.x - target.clientWidth / 2;
}

// A curve from the first point to the last that bends towards those between.
function curve(points) {
  const place = ({ x, y }) => `${x.toFixed(1)} ${y.toFixed(1)}`;
  const middle = (a, b) => ({ x: (a.x + b.x) / 2, y: (a.y + b.y) / 2 });
  const bends = points.slice(1, -1).map((point, at) => {
    const last = at === points.length - 3;
    return `Q${place(point)} ${place(last ? points.at(-1) : middle(point, points[at + 2]))}`;
  });
  return `M${place(points[0])}${bends.length ? bends.join("") : `L${place(points.at(-1))}`}`;
}

function drawNode({ x, y, width, height, lines, row, status }) {
  const group = drawing("g", { transform: `translate(${x - width / 2} ${y - height / 2})` });
  if (status !== null) {
    group.append(drawing("rect", { class: "frame", width, height, rx: 6 }));
    group.append(drawing("rect", { class: status, width: 6, height: height - 8, x: 4, y: 4, rx: 2 }));
  }
  lines.forEach((line, number) => {
    const place = status === null ? { x: 6, y: 15 } : { x: 17, y: 19 + 16 * number };
    const text = drawing("text", { ...place, class: number === 0 ? "kind" : "minor" });
    text.textContent = line;
    group.append(text);
  });
  if (row !== undefined) {
    group.setAttribute("class", row === node(selected) ? "node selected" : "node");
    group.setAttribute("tabindex", 0);
    group.append(Object.assign(drawing("title"), { textContent: rows[row].tensor }));
    const open = () => select(row, { reveal: true });
    group.addEventListener("click", open);
    group.addEventListener("keydown", ({ key }) => key === "Enter" && open());
  }
  return group;
}

listeners.push(drawGraph);
