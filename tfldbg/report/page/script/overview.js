// The error along the network.

const METRICS = {
  max_lsb: { name: "largest error", unit: "LSB", log: true, least: 1e-3, rounding: 0.5 },
  rmse_lsb: { name: "RMSE", unit: "LSB", log: true, least: 1e-4 },
  max_abs: { name: "largest error, real units", unit: "", log: true, least: 1e-9 },
  relative_rmse: { name: "RMSE relative to the tensor's own RMS", unit: "", log: true, least: 1e-8 },
  sqnr_db: { name: "SQNR (higher is better)", unit: "dB", log: false },
};
const MOST_AT_ONCE = 120;

function values(side, metric) {
  const { log, least } = METRICS[metric];
  return rows.map((row) => {
    const value = row[side]?.[metric] ?? null;
    return value === null || !log ? value : Math.max(value, least);
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
    data: values(side, metric),
    connectNulls: true,
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
      axisLabel: { formatter: (value) => (about.log && value <= about.least ? `≤ ${figure(value)}` : figure(value)) },
    }),
    series: series.map((line) => ({ ...line, data: line.data.map((value, at) => [at, value]) })),
  };
}

function zoom() {
  const around = MOST_AT_ONCE / 2;
  const start = Math.max(0, Math.min(trace.first - around, rows.length - 2 * around));
  return {
    type: "slider",
    startValue: start,
    endValue: start + 2 * around,
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
    byId("overview").replaceWith(element("p", { class: "hint" }, "Nothing could be compared."));
    return;
  }
  choice.value = trace.quantized ? usable[0] : usable.includes("relative_rmse") ? "relative_rmse" : usable[0];
  const chart = draw(byId("overview"), () => overviewOptions(choice.value), (made) => {
    made.getZr().on("click", (event) => {
      const at = Math.round(made.convertFromPixel({ xAxisIndex: 0 }, event.offsetX));
      if (made.containPixel("grid", [event.offsetX, event.offsetY])) select(at, { reveal: true });
    });
  });
  const redraw = () => charts.get(chart.getDom()).redraw();
  choice.addEventListener("change", redraw);
  listeners.push(() => {
    const kept = chart.getOption().dataZoom?.[0];
    redraw();
    if (kept) chart.dispatchAction({ type: "dataZoom", startValue: kept.startValue, endValue: kept.endValue });
  });
}
