// Everything about the selected operator.

function chartBox(heading, note) {
  const target = element("div", { class: "chart", role: "img", "aria-label": heading });
  const box = element("div", {}, element("h3", {}, heading), target);
  if (note) box.append(element("p", { class: "hint" }, note));
  return { box, target };
}

const missing = (heading, why) =>
  element("div", {}, element("h3", {}, heading), element("p", { class: "hint" }, why));

const compact = new Intl.NumberFormat("en", { notation: "compact" }).format;

// Why something that needs codes, or values of both sides, is not there.
function why(row, codes) {
  if (codes && !row.parameters.tflite) {
    return row.type.startsWith("FLOAT") ? "A float tensor has no codes." : `${row.type} has no scale.`;
  }
  if (!row.local && !row.accumulated) return "Nothing to compare with.";
  return "Not measured: trace with --html or --dump has it, and a diff of two recordings has not.";
}

function binNames() {
  const edges = trace.edges_lsb.map(figure);
  const between = edges.slice(1).map((edge, at) => `${edges[at]} to ${edge}`);
  return [`below ${edges[0]}`, ...between, `above ${edges.at(-1)}`];
}

function histogramChart(row) {
  const heading = "Distribution of the error, LSB";
  const sides = SIDES.filter((side) => row.histogram[side]);
  if (!sides.length) return missing(heading, why(row, true));
  const { box, target } = chartBox(heading);
  const names = binNames();
  const total = (side) => row.histogram[side].reduce((sum, n) => sum + n, 0);
  return [box, () => draw(target, () => ({
    legend: legend(),
    tooltip: tooltip((bars) => tip(`${names[bars[0].dataIndex]} LSB`, ...bars.map((bar) => {
      const n = row.histogram[bar.seriesName][bar.dataIndex];
      return `${bar.seriesName}: ${count(n)} (${percent(n, total(bar.seriesName))})`;
    })), { trigger: "axis" }),
    xAxis: axis({ type: "category", data: names, axisLabel: { interval: 0, formatter: (_, at) => edgeLabel(at) } }),
    yAxis: axis({ type: "log", min: 0.5, startValue: 0.5, axisLabel: { formatter: (n) => (n < 1 ? "" : compact(n)) } }),
    series: sides.map((side) => ({
      name: side,
      type: "bar",
      color: colour(side),
      barGap: 0,
      barCategoryGap: "10%",
      data: row.histogram[side].map((n) => n || null),
    })),
  }))];
}

// The axis names the middle and the ends; a tooltip names each bin.
function edgeLabel(at) {
  const last = trace.edges_lsb.length;
  if (at === 0) return `< ${figure(trace.edges_lsb[0])}`;
  if (at === last) return `> ${figure(trace.edges_lsb.at(-1))}`;
  return at === last / 2 ? "0" : "";
}

function scatterChart(row) {
  const heading = "TFLite (upwards) against the reference, real units";
  const sides = SIDES.filter((side) => row.points[side]?.tflite.length);
  if (!sides.length) return missing(heading, why(row, false));
  const { box, target } = chartBox(heading);
  const pairs = (side) => {
    const { reference, tflite, worst } = row.points[side];
    const found = reference.map((value, at) => [value, tflite[at]]);
    return worst ? [...found, [worst.reference, worst.tflite]] : found;
  };
  const all = sides.flatMap((side) => pairs(side).flat());
  const room = 0.04 * (Math.max(...all) - Math.min(...all)) || 0.5;
  const ends = [Math.min(...all) - room, Math.max(...all) + room];
  // Both axes span the same, so that the line of equal values is where it is looked for.
  const span = () => axis({ type: "value", min: ends[0], max: ends[1], axisLabel: { formatter: figure, showMinLabel: false, showMaxLabel: false } });
  return [box, () => draw(target, () => ({
    legend: legend(),
    tooltip: tooltip(({ seriesName, value }) =>
      tip(seriesName, `reference ${figure(value[0])}`, `TFLite ${figure(value[1])}`), { trigger: "item" }),
    xAxis: span(),
    yAxis: span(),
    // The local pairs are drawn last: they are the fewer that leave the diagonal.
    series: [...sides].reverse().map((side, number) => ({
      name: side,
      type: "scatter",
      color: colour(side),
      symbolSize: 5,
      itemStyle: { opacity: 0.7 },
      data: pairs(side),
      markLine: number ? undefined : {
        silent: true,
        symbol: "none",
        label: { show: false },
        lineStyle: { color: colour("muted"), type: "dashed" },
        data: [[{ coord: [ends[0], ends[0]] }, { coord: [ends[1], ends[1]] }]],
      },
    })),
  }))];
}

function channelChart(row) {
  const { group, count: channels } = row.channels;
  const unit = row.parameters.tflite ? "LSB" : "real units";
  const heading = `Largest error of each channel, ${unit}`;
  const sides = SIDES.filter((side) => row.channels[side]?.length);
  if (!sides.length) return missing(heading, "Nothing to compare with.");
  const { box, target } = chartBox(heading, group > 1 ? `${count(channels)} channels; each bar is the largest of ${group}.` : "");
  const names = row.channels[sides[0]].map((_, at) =>
    group > 1 ? `channels ${at * group} to ${Math.min((at + 1) * group, channels) - 1}` : `channel ${at}`);
  return [box, () => draw(target, () => ({
    legend: legend(),
    tooltip: tooltip((bars) => tip(names[bars[0].dataIndex],
      ...bars.map((bar) => `${bar.seriesName}: ${figure(bar.value)}`)), { trigger: "axis" }),
    xAxis: axis({ type: "category", data: names, axisLabel: { formatter: (_, at) => String(at * group) } }),
    // Less than an LSB is drawn as little, and not blown up to the full height.
    yAxis: axis({ type: "value", max: ({ max }) => (unit === "LSB" && max < 1 ? 1 : null), axisLabel: { formatter: figure } }),
    series: sides.map((side) => ({
      name: side, type: "bar", color: colour(side), barGap: 0, large: true, data: row.channels[side],
    })),
  }))];
}

function usageChart(row) {
  const heading = "Codes that TFLite yielded";
  const usage = row.usage;
  if (!usage?.bins.length) return missing(heading, why(row, true));
  const width = usage.codes / usage.bins.length;
  const ends = [["lowest", usage.at_lowest], ["highest", usage.at_highest]].filter(([, n]) => n);
  const share = (n) => (n < usage.total / 1000 ? `${count(n)} value${n > 1 ? "s" : ""}` : percent(n, usage.total));
  const clipped = ends.map(([end, n]) => `${share(n)} at the ${end} code`);
  const span = percent(usage.highest - usage.lowest + 1, usage.codes);
  const note = [`${usage.lowest} to ${usage.highest}: ${span} of the range`, ...clipped].join("; ");
  const { box, target } = chartBox(heading, `${note}.`);
  const name = (at) => {
    const first = usage.first_code + at * width;
    return width > 1 ? `codes ${first} to ${first + width - 1}` : `code ${first}`;
  };
  return [box, () => draw(target, () => ({
    grid: { left: 8, right: 14, top: 8, bottom: 8, containLabel: true },
    tooltip: tooltip(([bar]) => tip(name(bar.dataIndex),
      `${count(usage.bins[bar.dataIndex])} values (${percent(usage.bins[bar.dataIndex], usage.total)})`), { trigger: "axis" }),
    xAxis: axis({ type: "category", data: usage.bins.map((_, at) => usage.first_code + at * width) }),
    yAxis: axis({ type: "log", min: 0.5, startValue: 0.5, axisLabel: { formatter: (n) => (n < 1 ? "" : compact(n)) } }),
    series: [{ type: "bar", color: colour("muted"), barCategoryGap: "5%", data: usage.bins.map((n) => n || null) }],
  }))];
}

function sideBySide(row) {
  const { tflite, reference, trained, compared } = row.parameters;
  const ranges = (side) => (side ? `${figure(side.range[0])} to ${figure(side.range[1])}` : "–");
  const exact = (side, key) => (side ? String(side[key]) : "–");
  const options = Object.entries(row.options).map(([name, value]) => `${name} ${value}`).join(", ");
  const lines = [
    ["tensor", (row.tensor || row.layer).replaceAll(";", ";\n"), row.reference?.replaceAll(";", ";\n") ?? `– (${row.unmatched_reason ?? "no counterpart"})`],
    ["matched by", "", row.match_rule ?? "–"],
    ["type, shape", `${row.type} [${row.shape.join(", ")}]`, ""],
    ...(options ? [["options", options, ""]] : []),
    ["scale", exact(tflite, "scale"), exact(reference, "scale")],
    ["zero point", exact(tflite, "zero_point"), exact(reference, "zero_point")],
    ["range", ranges(tflite), reference ? ranges(reference) : trained ? `${figure(trained[0])} to ${figure(trained[1])} (trained)` : "–"],
  ];
  if (compared && compared !== "none") lines.push(["parameters", compared, ""]);
  return listed(["side by side", "TFLite", "reference"], lines);
}

function figuresTable(row) {
  const unit = row.parameters.tflite ? "_lsb" : "";
  const suffix = unit ? ", LSB" : ", real units";
  const wanted = [
    [`largest${suffix}`, unit ? "max_lsb" : "max_abs"],
    [`mean${suffix}`, unit ? "mean_lsb" : "mean_abs"],
    [`RMSE${suffix}`, `rmse${unit}`],
    ...(unit ? [["bias, LSB", "bias_lsb"]] : []),
    ["SQNR, dB", "sqnr_db"],
    ["cosine", "cosine"],
    ["worst channel", "worst_channel"],
  ];
  const lines = wanted.map(([name, key]) =>
    [name, ...SIDES.map((side) => (key === "cosine" ? row[side]?.[key]?.toFixed(6) ?? "–" : figure(row[side]?.[key])))]);
  lines.push(["worst sample", ...SIDES.map((side) => place(row[side]?.worst_sample))]);
  const share = (side) => (row[side] ? percent(row[side].differing, row[side].elements) : "–");
  lines.push([unit ? "off by more than half a step" : "differing", ...SIDES.map(share)]);
  const broken = (side) => figure(row[side]?.nonfinite);
  if (SIDES.some((side) => row[side]?.nonfinite)) lines.push(["not finite", ...SIDES.map(broken)]);
  if (row.local?.saturated) {
    lines.push(["reference beyond the range", percent(row.local.saturated, row.local.elements), "–"]);
  }
  for (const [name, size] of Object.entries(row.split ?? {})) lines.push([`of it ${name}, LSB RMSE`, "–", figure(size)]);
  return listed(["error", ...SIDES], lines, "plain figures");
}

function worstElement(row) {
  const lines = SIDES.flatMap((side) => {
    const worst = row.points[side]?.worst;
    if (!worst) return [];
    const step = row.parameters.tflite?.scale;
    const off = step ? `${figure(worst.off / step)} LSB` : figure(worst.off);
    return [[side, `${place(worst.sample)} [${worst.index.join(", ")}]`, exact(worst.tflite), exact(worst.reference), off]];
  });
  if (!lines.length) return [];
  return [listed(["furthest off", "sample [index]", "TFLite", "reference", "by"], lines)];
}

function listed(heads, lines, kind = "plain") {
  const head = element("tr", {}, ...heads.map((text) => element("th", {}, text)));
  const body = lines.map((cells) => element("tr", {}, ...cells.map((text) => element("td", {}, text))));
  const table = element("table", { class: kind }, element("thead", {}, head), element("tbody", {}, ...body));
  return element("div", { class: "scroll" }, table);
}

function findingLinks(row) {
  return row.findings.map((number) => {
    const source = byId(`finding-${number}`);
    const line = element("p", {}, ...[...source.firstElementChild.childNodes].map((node) => node.cloneNode(true)));
    return element("div", { class: source.className }, line);
  });
}

function showOperator() {
  const target = byId("operator");
  forget(target);
  const row = rows[selected];
  const status = element("span", { class: `status ${row.status}` }, row.status);
  const heading = element("div", { class: "heading" }, element("h2", {}, `Operator ${title(row)} '${row.layer}'`), status);
  const reason = row.unchecked_reason ? [element("p", { class: "hint" }, `No local error: ${row.unchecked_reason}.`)] : [];
  const parts = [histogramChart(row), scatterChart(row), channelChart(row), usageChart(row)];
  const boxes = parts.map((part) => (Array.isArray(part) ? part[0] : part));
  target.replaceChildren(
    heading, ...findingLinks(row), ...reason, element("div", { class: "charts" }, ...boxes), figuresTable(row),
    ...worstElement(row), sideBySide(row),
  );
  for (const part of parts) if (Array.isArray(part)) part[1]();
}

listeners.push(showOperator);
