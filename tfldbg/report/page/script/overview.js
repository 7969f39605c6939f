// The error along the network.

const METRICS = {
  max_lsb: { name: "largest error", unit: "LSB", log: true, least: 1e-3, rounding: 0.5 },
  rmse_lsb: { name: "RMSE", unit: "LSB", log: true, least: 1e-4 },
  max_abs: { name: "largest error, real units", unit: "", log: true, least: 1e-9 },
  relative_rmse: { name: "RMSE relative to the tensor's own RMS", unit: "", log: true, least: 1e-8 },
  sqnr_db: { name: "SQNR (higher is better)", unit: "dB", log: false },
};
const MOST_AT_ONCE = 120;

// Whether an operator's error has no finite figure: NaN or infinite values, or a reference of zeros.
function endless(row, side, metric) {
  const figures = row[side];
  if (!figures || metric === "sqnr_db") return false;
  return figures.nonfinite > 0 || (metric === "relative_rmse" && figures.relative_rmse === null);
}

// The points of a line.  Constants and shapes have none, and operators that could not be checked
// interrupt it; what is not finite stands above everything else.
function points(side, metric) {
  const { log, least } = METRICS[metric];
  const known = rows.flatMap((row) => SIDES.map((name) => row[name]?.[metric] ?? 0));
  const top = 10 * Math.max(...known, least);
  return rows.flatMap((row, at) => {
    if (!row.activation && !row[side]) return [];
    if (endless(row, side, metric)) {
      return [{ value: [at, top], symbol: "triangle", symbolSize: 12, itemStyle: { color: colour("origin") } }];
    }
    const value = row[side]?.[metric] ?? null;
    return [{ value: [at, value === null || !log ? value : Math.max(value, least)] }];
  });
}

function overviewOptions(metric) {
  const about = METRICS[metric];
  const marks = rows.flatMap((row, at) => (row.status === "origin" ? [{ xAxis: at }] : []));
  const lines = [{ xAxis: selected, lineStyle: { color: colour("muted"), type: "solid", width: 1 } }];
  if (about.rounding) {
    const label = { formatter: "rounding", position: "insideStartTop", color: colour("muted") };
    lines.push({ yAxis: about.rounding, label, lineStyle: { color: colour("muted") } });
  }
  const series = SIDES.map((side) => ({
    name: side,
    type: "line",
    data: points(side, metric),
    symbol: "circle",
    symbolSize: rows.length > MOST_AT_ONCE ? 3 : 6,
    showAllSymbol: true,
    // Operators that only copy have no error of their own; full lines down to them would hide the rest.
    lineStyle: side === "local" ? { width: 1, opacity: 0.35 } : { width: 2 },
    emphasis: { disabled: true },
  }));
  series[0].markLine = { silent: true, symbol: "none", label: { show: false }, data: lines };
  series[0].markArea = {
    silent: true,
    itemStyle: { color: colour("origin"), opacity: 0.13 },
    data: marks.map(({ xAxis }) => [{ xAxis: Math.max(xAxis - 0.4, 0) }, { xAxis: xAxis + 0.4 }]),
  };
  return {
    grid: { left: 8, right: 18, top: 32, bottom: rows.length > MOST_AT_ONCE ? 74 : 26, containLabel: true },
    legend: legend(),
    tooltip: tooltip((points) => overviewTip(points[0].value[0], metric), {
      trigger: "axis",
      axisPointer: { type: "line", lineStyle: { color: colour("muted") } },
    }),
    dataZoom: rows.length > MOST_AT_ONCE ? [zoom()] : [],
    xAxis: axis({
      type: "value",
      min: 0,
      max: Math.max(rows.length - 1, 1),
      minInterval: 1,
      interval: rows.length <= 40 ? 1 : undefined,
      name: "operator",
      splitLine: { show: false },
      axisLabel: { formatter: (at) => (Number.isInteger(at) ? rows[at]?.op ?? "" : "") },
    }),
    yAxis: axis({
      type: about.log ? "log" : "value",
      min: about.log ? about.least : undefined,
      max: ({ max }) => (about.log && max <= about.least ? 1e3 * about.least : null),
      axisLabel: { formatter: (value) => (about.log && value <= about.least ? `≤ ${figure(value)}` : figure(value)) },
    }),
    series,
  };
}

// Which rows of a large network are in view.
let view = [0, rows.length - 1];

function lookAt(row) {
  const [start, end] = view;
  if (row >= start && row <= end && end - start < rows.length - 1) return;
  const first = Math.max(0, Math.min(row - MOST_AT_ONCE / 2, rows.length - 1 - MOST_AT_ONCE));
  view = [first, first + MOST_AT_ONCE];
}

function zoom() {
  return {
    type: "slider",
    startValue: view[0],
    endValue: view[1],
    height: 22,
    bottom: 10,
    borderColor: colour("line"),
    textStyle: { color: colour("muted") },
    filterMode: "none",
  };
}

function overviewTip(at, metric) {
  const row = rows[at];
  const about = METRICS[metric];
  const lines = SIDES.map((side) => {
    if (endless(row, side, metric)) return `${side}: not finite`;
    const value = row[side]?.[metric];
    return `${side}: ${figure(value)} ${value === undefined || value === null ? "" : about.unit}`;
  });
  return tip(title(row), row.layer, ...lines, row.status);
}

function overview() {
  const choice = byId("metric");
  const usable = Object.keys(METRICS).filter((metric) =>
    rows.some((row) => SIDES.some((side) => (row[side]?.[metric] ?? null) !== null)),
  );
  for (const metric of usable) {
    const { name, unit } = METRICS[metric];
    choice.append(element("option", { value: metric }, unit ? `${name}, ${unit}` : name));
  }
  if (!usable.length) {
    choice.parentElement.remove();
    byId("overview").replaceWith(element("p", { class: "hint" }, "Nothing was compared."));
    return;
  }
  choice.value = trace.quantized ? usable[0] : usable.includes("relative_rmse") ? "relative_rmse" : usable[0];
  const chart = draw(byId("overview"), () => overviewOptions(choice.value), (made) => {
    made.getZr().on("click", (event) => {
      const at = Math.round(made.convertFromPixel({ xAxisIndex: 0 }, event.offsetX));
      if (made.containPixel("grid", [event.offsetX, event.offsetY])) select(at, { reveal: true });
    });
  });
  chart.on("datazoom", () => {
    const [{ startValue, endValue }] = chart.getOption().dataZoom;
    view = [Math.round(startValue), Math.round(endValue)];
  });
  const { redraw } = charts.get(chart.getDom());
  choice.addEventListener("change", redraw);
  listeners.push((row) => {
    if (rows.length > MOST_AT_ONCE) lookAt(row);
    redraw();
  });
}
