// The table of operators: sorting, filtering, selecting.

const body = document.querySelector("#operators tbody");

function sortBy(head) {
  const column = head.cellIndex;
  const numeric = head.dataset.sort === "number";
  // The first click brings the worst to the top.
  const before = head.getAttribute("aria-sort");
  const descending = before ? before === "ascending" : head.dataset.worst === "high";
  for (const other of head.parentElement.cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", descending ? "descending" : "ascending");
  const text = (line) => line.cells[column].textContent;
  const number = (line) => line.cells[column].dataset.value;
  const compare = numeric
    ? (a, b) => number(a) - number(b)
    : (a, b) => text(a).localeCompare(text(b), "en", { numeric: true });
  const known = [...body.rows].filter((line) => !numeric || number(line) !== "");
  const unknown = [...body.rows].filter((line) => numeric && number(line) === "");
  known.sort((a, b) => (descending ? compare(b, a) : compare(a, b)));
  body.append(...known, ...unknown); // what has no figure stays below, whichever way it is sorted
}

function filterRows() {
  const wanted = byId("filter").value.trim().toLowerCase();
  const shown = new Set([...document.querySelectorAll(".chip[aria-pressed=true]")].map((chip) => chip.dataset.status));
  let visible = 0;
  for (const line of body.rows) {
    const row = rows[line.dataset.row];
    const matches = String(row.op) === wanted || `${row.kind} ${row.layer}`.toLowerCase().includes(wanted) ||
      (wanted.includes("/") && row.tensor.toLowerCase().includes(wanted));
    line.hidden = !(matches && shown.has(line.dataset.status));
    visible += line.hidden ? 0 : 1;
  }
  byId("shown").textContent = visible === rows.length ? "" : `${visible} of ${rows.length} shown`;
}

function step(line, forward) {
  let next = line;
  do next = forward ? next.nextElementSibling : next.previousElementSibling;
  while (next?.hidden);
  if (!next) return;
  next.focus();
  select(Number(next.dataset.row));
}

function table() {
  for (const head of document.querySelectorAll("#operators th")) {
    head.firstElementChild.addEventListener("click", () => sortBy(head));
  }
  byId("filter").addEventListener("input", filterRows);
  for (const chip of document.querySelectorAll(".chip")) {
    chip.addEventListener("click", () => {
      chip.setAttribute("aria-pressed", chip.getAttribute("aria-pressed") !== "true");
      filterRows();
    });
  }
  body.addEventListener("click", (event) => {
    const line = event.target.closest("tr");
    if (line) select(Number(line.dataset.row), { reveal: true });
  });
  body.addEventListener("keydown", (event) => {
    const line = event.target.closest("tr");
    if (!line || !["Enter", "ArrowDown", "ArrowUp"].includes(event.key)) return;
    event.preventDefault();
    if (event.key === "Enter") select(Number(line.dataset.row), { reveal: true });
    else step(line, event.key === "ArrowDown");
  });
  listeners.push((row) => {
    for (const line of body.rows) {
      const current = Number(line.dataset.row) === row;
      line.setAttribute("aria-current", current);
      line.setAttribute("tabindex", current ? 0 : -1);
    }
    const box = body.closest(".tall");
    const line = [...body.rows].find((candidate) => Number(candidate.dataset.row) === row);
    if (line.hidden) return;
    const [top, bottom] = [line.offsetTop - body.offsetTop, line.offsetTop + line.offsetHeight];
    if (top < box.scrollTop || bottom > box.scrollTop + box.clientHeight) box.scrollTop = top - box.clientHeight / 2;
  });
}
