// Put the parts together.

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  for (const { redraw } of charts.values()) redraw();
}

// Show the operator that an address ends with.
function open(hash) {
  const found = /^#op-(\d+)$/.exec(hash);
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
    const { top } = byId("operator").getBoundingClientRect();
    if (reveal && (top < 0 || top > 0.6 * innerHeight)) {
      byId("operator").scrollIntoView({ behavior: "instant", block: "start" });
    }
  });
  addEventListener("click", (event) => {
    const link = event.target.closest?.("a[href^='#op-']");
    if (!link) return;
    event.preventDefault();
    open(link.hash);
  });
  addEventListener("hashchange", () => open(location.hash));
  if (!open(location.hash)) select(selected);
}
