// The table of points, sortable and filterable; the copy button; and the start of everything.

function startTable() {
  const table = document.getElementById("points-table");
  if (!table) return;
  const keys = [(p) => p.recipe, (p) => p.bytes, (p) => p.total, (p) => p.q[0], (p) => p.d[0], (p) => p.p50, (p) => p.p95, (p) => p.build, (p) => p.verdict];
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = element("button", { type: "button" }, head.textContent);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const value = (row) => (row.dataset.i === undefined ? null : keys[column](points[row.dataset.i]));
      rows.sort((a, b) => {
        const one = value(a), two = value(b);
        // Rows without a value stay at the end whichever way the column runs.
        if (one === null || two === null) return (one === null) - (two === null);
        const order = typeof one === "string" ? one.localeCompare(two) : one - two;
        return down ? -order : order;
      });
      body.append(...rows);
    });
    head.replaceChildren(button);
  });
  const words = element("input", { type: "search", placeholder: "Filter: words of the recipe", "aria-label": "Filter recipes by words" });
  const verdicts = [...new Set(points.map((point) => point.verdict).filter(Boolean))];
  const pick = element("select", { "aria-label": "Filter by verdict" }, element("option", { value: "" }, "all verdicts"),
    ...verdicts.map((verdict) => element("option", { value: verdict }, VERDICTS[verdict] ?? verdict)));
  const only = element("input", { type: "checkbox" });
  const told = element("span", { "aria-live": "polite" });
  const filter = () => {
    const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of rows) {
      const place = row.dataset.i === undefined ? null : Number(row.dataset.i);
      const text = row.cells[0].textContent.toLowerCase();
      const keep = wanted.every((word) => text.includes(word)) && (!only.checked || special.has(place))
        && (!pick.value || (place !== null && points[place].verdict === pick.value));
      row.hidden = !keep;
      shown += keep;
    }
    told.textContent = `${shown} of ${rows.length} shown`;
  };
  for (const control of [words, pick, only]) control.addEventListener("input", filter);
  const tools = element("div", { class: "tools" }, words, pick, element("label", {}, only, "frontier only"), told);
  table.closest(".scroll").before(tools);
  filter();
  body.addEventListener("click", (event) => {
    const row = event.target.closest("tr[data-i]");
    if (row && canvas && !String(getSelection())) togglePin(Number(row.dataset.i));
  });
}

function startCommand() {
  const code = document.querySelector(".command code");
  if (!code) return;
  const button = element("button", { type: "button" }, "Copy");
  button.addEventListener("click", () => copy(code.textContent, button));
  document.querySelector(".command").append(button);
}

addEventListener("beforeprint", () => { for (const one of document.querySelectorAll("details")) one.open = true; });
startPlot();
startTable();
startCommand();
document.documentElement.dataset.ready = "yes";
