// Put the parts together.

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  for (const { redraw } of charts.values()) redraw();
}

function fromAddress() {
  const found = /^#op-(\d+)$/.exec(location.hash);
  if (!found) return false;
  const row = rows.findIndex(({ op }) => op === Number(found[1]));
  if (row >= 0) select(row, { reveal: true });
  return row >= 0;
}

const prefersDark = matchMedia("(prefers-color-scheme: dark)");
setTheme(prefersDark.matches ? "dark" : "light");
prefersDark.addEventListener("change", ({ matches }) => setTheme(matches ? "dark" : "light"));
byId("theme").addEventListener("click", () =>
  setTheme(document.documentElement.dataset.theme === "dark" ? "light" : "dark"));

if (rows.length) {
  overview();
  table();
  listeners.push((row, reveal) => {
    if (reveal && matchMedia("(max-width: 1050px)").matches) {
      byId("operator").scrollIntoView({ behavior: "instant", block: "start" });
    }
  });
  addEventListener("hashchange", fromAddress);
  if (!fromAddress()) select(selected);
}
