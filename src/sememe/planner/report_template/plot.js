// The interactive frontier plot: scales, drawing, the inspector beside it, pointer and keyboard.

// ---- state ---------------------------------------------------------------------------------------------------
const AXES = {
  bytes: { label: "bytes per vector", name: "Bytes per vector", show: (v) => `${v.toLocaleString("en")}`, base2: true },
  total: { label: "size of the index", name: "Index size", show: size },
  p95: { label: "latency, p95", name: "Latency", show: milliseconds },
};
const state = {
  axis: "bytes",
  kind: data.groups.encoder.length > 1 ? "encoder" : "quantizer",
  close: false, whiskers: false, hidden: new Set(), pinned: null, hot: data.chosen ?? data.reference ?? 0,
};
const special = new Set([...data.frontier, data.reference, data.chosen].filter((row) => row !== null));
const usable = (row) => points[row][state.axis] > 0 && isNumber(points[row].q[0]);
const visible = (row) => usable(row) && !state.hidden.has(points[row][state.kind]);
const rowsInPlot = () => points.map((_, row) => row).filter(visible);
let placed = [];
let canvas, inspector, legend, unplaced, live;

// ---- scales --------------------------------------------------------------------------------------------------
function verticalRange(rows) {
  const reference = data.reference === null ? null : points[data.reference].q[0];
  let values;
  if (state.close && isNumber(reference) && isNumber(data.floor)) {
    const reach = Math.max(reference - data.floor, 0.005) * 4;
    values = [reference - reach, reference + reach * 0.75];
  } else {
    values = [...rows.map((row) => points[row].q[0]), ...data.context.map((line) => line.q), data.floor];
    for (const row of special) if (visible(row)) values.push(...points[row].q);
  }
  values = values.filter(isNumber);
  const low = Math.min(...values), high = Math.max(...values);
  const margin = Math.max((high - low) * 0.05, 0.005);
  return [low - margin, high + margin];
}

function roundTicks(low, high, wanted) {
  const raw = (high - low) / wanted;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((s) => s >= raw * 0.999);
  const found = [];
  for (let i = Math.ceil(low / step - 1e-9); i <= high / step + 1e-9; i++) found.push(i * step);
  return found;
}

function logTicks(low, high, base2, room) {
  let found = [];
  if (base2) for (let p = Math.ceil(Math.log2(low)); 2 ** p <= high; p++) found.push(2 ** p);
  else for (let p = Math.floor(Math.log10(low)); 10 ** p <= high; p++) for (const f of [1, 2, 5]) found.push(f * 10 ** p);
  found = found.filter((value) => value >= low && value <= high);
  // Less than a decade holds too few round powers: even steps read better there.
  if (found.length < 3) found = roundTicks(low, high, Math.min(room, 5)).filter((value) => value > 0);
  const every = Math.ceil(found.length / room);
  return found.filter((_, i) => i % every === 0);
}

// The best quality that is to be had at each cost: the planner's own frontier on its axis, computed for the others.
function frontier(rows) {
  if (state.axis === "bytes") return data.frontier.filter((row) => rows.includes(row)).sort((a, b) => points[a].bytes - points[b].bytes);
  const sorted = rows.filter((row) => points[row].verdict !== "dropped")
    .sort((a, b) => points[a][state.axis] - points[b][state.axis] || points[b].q[0] - points[a].q[0]);
  let best = -Infinity;
  return sorted.filter((row) => points[row].q[0] > best && ((best = points[row].q[0]), true));
}

// ---- drawing -------------------------------------------------------------------------------------------------
function draw() {
  const width = Math.max(canvas.clientWidth, 280), narrow = width < 560;
  const height = narrow ? 360 : 460;
  const box = { left: narrow ? 40 : 52, right: width - 12, top: 26, bottom: height - 50 };
  const rows = rowsInPlot();
  const svg = shape("svg", {
    class: "plot", viewBox: `0 0 ${width} ${height}`, width, height, tabindex: 0, role: "application",
    "aria-label": `${data.metric} over ${AXES[state.axis].label}, ${rows.length} recipes. Arrow keys move between recipes, Enter pins.`,
  });
  canvas.replaceChildren(svg);
  placed = [];
  unplaced.textContent = "";
  if (!rows.length) {
    svg.append(shape("text", { x: width / 2, y: height / 2, "text-anchor": "middle" }, "Nothing to show: turn a group on again."));
    return;
  }
  const [low, high] = verticalRange(rows);
  const inside = (value) => value >= low && value <= high;
  const within = rows.filter((row) => inside(points[row].q[0]));
  const costs = (within.length ? within : rows).map((row) => points[row][state.axis]);
  const stretch = Math.max((Math.log(Math.max(...costs)) - Math.log(Math.min(...costs))) * 0.05, 0.12);
  const left = Math.log(Math.min(...costs)) - stretch, right = Math.log(Math.max(...costs)) + stretch;
  const x = (value) => box.left + (Math.log(value) - left) / (right - left) * (box.right - box.left);
  const y = (value) => box.top + (high - value) / (high - low) * (box.bottom - box.top);
  const clamp = (value) => Math.min(Math.max(value, low), high);

  const tickStep = roundTicks(low, high, narrow ? 6 : 7);
  const digits = tickStep.length > 1 && tickStep[1] - tickStep[0] < 0.0099 ? 3 : 2;
  for (const tick of tickStep) {
    svg.append(shape("path", { class: "grid", d: `M${box.left} ${y(tick)}H${box.right}` }));
    svg.append(shape("text", { class: "tick", x: box.left - 8, y: y(tick) + 4, "text-anchor": "end" }, tick.toFixed(digits)));
  }
  for (const tick of logTicks(Math.exp(left), Math.exp(right), AXES[state.axis].base2, (box.right - box.left) / 64)) {
    svg.append(shape("path", { class: "grid light", d: `M${x(tick)} ${box.top}V${box.bottom}` }));
    svg.append(shape("text", { class: "tick", x: x(tick), y: box.bottom + 20, "text-anchor": "middle" }, AXES[state.axis].show(tick)));
  }
  svg.append(shape("text", { class: "axis", x: (box.left + box.right) / 2, y: height - 8, "text-anchor": "middle" }, `${AXES[state.axis].label} (log scale)`));
  svg.append(shape("text", { class: "axis", x: 0, y: 12 }, data.metric));

  const notes = shape("g");
  drawBand(svg, notes, box, y, clamp, inside);
  drawContext(svg, notes, box, y, inside);
  const line = frontier(within);
  if (line.length > 1) {
    const steps = line.map((row, i) => i ? `H${x(points[row][state.axis])}V${y(points[row].q[0])}` : `M${x(points[row][state.axis])} ${y(points[row].q[0])}`);
    svg.append(shape("path", { class: "frontier", d: steps.join("") }));
  }
  const rank = (row) => (row === data.chosen || row === data.reference ? 2 : special.has(row) ? 1 : 0);
  for (const row of [...within].sort((a, b) => rank(a) - rank(b))) {
    const point = points[row];
    const [colour, marker] = data.styles[point[state.kind]];
    const spot = { row, x: x(point[state.axis]), y: y(point.q[0]), colour, marker, top: point.q[2], bottom: point.q[1] };
    if (isNumber(spot.top) && isNumber(spot.bottom)) {
      spot.whisker = `M${spot.x} ${y(clamp(spot.top))}V${y(clamp(spot.bottom))}`;
      if (state.whiskers || rank(row)) svg.append(shape("path", { class: `whisker c${colour}`, d: spot.whisker }));
    }
    svg.append(shape("path", {
      class: `pt c${colour} v-${/^[a-z]+$/.test(point.verdict) ? point.verdict : "none"}`,
      transform: `translate(${spot.x} ${spot.y})scale(${rank(row) ? 5.5 : 4.5})`, d: data.shapes[marker],
    }));
    placed.push(spot);
  }
  svg.append(notes);
  drawMarks(svg, box);
  svg.append(shape("g", { id: "hot" }));
  placed.sort((a, b) => a.x - b.x || a.y - b.y);
  const lost = points.map((_, row) => row).filter((row) => !usable(row)).length;
  const off = rows.length - placed.length;
  unplaced.textContent = [off && `${off} recipes lie outside this view.`, lost && `${lost} have no value on this axis.`].filter(Boolean).join(" ");
  listen(svg, width);
  highlight(state.pinned ?? state.hot);
}

function drawBand(svg, notes, box, y, clamp, inside) {
  const reference = data.reference === null ? null : points[data.reference].q[0];
  if (!isNumber(reference)) return;
  if (isNumber(data.floor)) {
    const top = y(clamp(reference)), bottom = y(clamp(data.floor));
    svg.append(shape("rect", { class: "band", x: box.left, y: top, width: box.right - box.left, height: Math.max(bottom - top, 0.5) }));
    if (inside(data.floor)) svg.append(shape("path", { class: "edge floor", d: `M${box.left} ${bottom}H${box.right}` }));
    const name = `tolerance ${score(data.floor)}`;
    notes.append(shape("text", { class: "note", x: box.left + 6, y: bottom + 15 }, name));
  }
  if (inside(reference)) svg.append(shape("path", { class: "edge", d: `M${box.left} ${y(reference)}H${box.right}` }));
}

function drawContext(svg, notes, box, y, inside) {
  for (const line of data.context.filter((one) => inside(one.q))) {
    svg.append(shape("path", { class: "context", d: `M${box.left} ${y(line.q)}H${box.right}` }));
    // Cheap recipes are rarely good, so the left is free; the right serves where the tolerance is named at that height.
    const taken = isNumber(data.floor) && Math.abs(y(line.q) - 5 - (y(data.floor) + 15)) < 15;
    const side = taken ? { x: box.right - 4, "text-anchor": "end" } : { x: box.left + 6, "text-anchor": "start" };
    notes.append(shape("text", { class: "note context", y: y(line.q) - 5, ...side }, `${line.recipe.slice(0, 40)} ${score(line.q)}`));
  }
}

function drawMarks(svg, box) {
  for (const name of ["reference", "chosen"]) {
    const spot = placed.find((one) => one.row === data[name]);
    if (!spot) continue;
    const far = spot.x > box.right - 70 ? "end" : spot.x < box.left + 70 ? "start" : "middle";
    svg.append(shape("circle", { class: `ring ${name}`, cx: spot.x, cy: spot.y, r: 10.5 }));
    const above = name === "reference" || data.reference === data.chosen;
    if (name === "chosen" && data.reference === data.chosen) continue;
    svg.append(shape("text", { class: `mark ${name}`, x: spot.x, y: spot.y + (above ? -17 : 27), "text-anchor": far }, name));
  }
}

function highlight(row) {
  state.hot = row;
  const layer = canvas.querySelector("#hot");
  if (layer) {
    layer.replaceChildren();
    const spot = placed.find((one) => one.row === row);
    if (spot) {
      if (spot.whisker) layer.append(shape("path", { class: `whisker hot c${spot.colour}`, d: spot.whisker }));
      layer.append(shape("path", {
        class: `pt c${spot.colour} v-passes`, transform: `translate(${spot.x} ${spot.y})scale(7)`, d: data.shapes[spot.marker],
      }));
      layer.append(shape("circle", { class: "halo", cx: spot.x, cy: spot.y, r: 13 }));
    }
  }
  inspect(row);
}

function inspect(row) {
  const point = points[row];
  if (!point) return;
  const reference = data.reference === null ? null : points[data.reference];
  const recipe = element("code", { class: "recipe", dir: "ltr" });
  point.recipe.split("|").forEach((stage, i, stages) => {
    const bar = i < stages.length - 1 ? [element("i", {}, " |")] : [];
    recipe.append(...(i ? [" "] : []), element("span", {}, stage.trim(), ...bar));
  });
  const tags = element("p", { class: "tags" });
  if (row === data.chosen) tags.append(element("span", { class: "badge pick" }, "\u2605 chosen"));
  if (data.frontier.includes(row)) tags.append(element("span", { class: "badge" }, "\u2310 frontier"));
  if (point.verdict) {
    const known = point.verdict in VERDICTS ? point.verdict : "none";
    tags.append(element("span", { class: `badge v-${known}` }, VERDICTS[point.verdict] ?? point.verdict));
  }
  const facts = element("dl");
  const fact = (name, text) => text && facts.append(element("div", {}, element("dt", {}, name), element("dd", {}, text)));
  const ratio = (key) => reference && row !== data.reference && reference[key] > 0 && point[key] > 0
    ? ` (${(reference[key] / point[key]).toFixed(1)}\u00d7 less)`.replace(/\(0\.\d.*\)/, "") : "";
  fact(data.metric, isNumber(point.q[0]) && range(point.q, score));
  fact("On unseen queries", isNumber(point.r[0]) && range(point.r, score));
  if (row !== data.reference) fact("Against reference", isNumber(point.d[0]) && range(point.d, signed));
  fact("Bytes per vector", isNumber(point.bytes) && vectorBytes(point.bytes) + ratio("bytes"));
  fact("Index", isNumber(point.total) && size(point.total) + ratio("total"));
  fact("Latency p50, p95", isNumber(point.p95) && `${isNumber(point.p50) ? milliseconds(point.p50) + ", " : ""}${milliseconds(point.p95)}`);
  fact("Build", isNumber(point.build) && `${three(point.build)} s`);
  const pinned = state.pinned === row;
  const pin = element("button", { type: "button", "aria-pressed": pinned, on: { click: () => togglePin(row) } }, pinned ? "Unpin" : "Pin");
  const take = element("button", { type: "button" }, "Copy recipe");
  take.addEventListener("click", () => copy(point.recipe, take));
  inspector.replaceChildren(
    element("h3", {}, pinned ? "Pinned recipe" : row === data.chosen ? "The choice" : "Recipe"), recipe, tags, facts,
    ...(point.reason ? [element("p", { class: "why" }, point.reason)] : []), element("p", { class: "acts" }, pin, take),
  );
}

function togglePin(row) {
  state.pinned = state.pinned === row ? null : row;
  highlight(row);
}

// ---- pointer and keyboard ------------------------------------------------------------------------------------
function listen(svg, width) {
  const nearest = (event) => {
    const frame = svg.getBoundingClientRect(), ratio = width / frame.width;
    const at = { x: (event.clientX - frame.left) * ratio, y: (event.clientY - frame.top) * ratio };
    let best = null, reach = event.pointerType === "touch" ? 44 : 30;
    for (const spot of placed) {
      const distance = Math.hypot(spot.x - at.x, spot.y - at.y);
      if (distance < reach) [best, reach] = [spot, distance];
    }
    return best;
  };
  svg.addEventListener("pointermove", (event) => {
    const spot = state.pinned === null && nearest(event);
    if (spot && spot.row !== state.hot) highlight(spot.row);
  });
  svg.addEventListener("click", (event) => {
    const spot = nearest(event);
    if (spot) togglePin(spot.row);
    else if (state.pinned !== null) togglePin(state.pinned);
  });
  svg.addEventListener("keydown", (event) => {
    const place = placed.findIndex((spot) => spot.row === state.hot);
    const moves = { ArrowRight: place + 1, ArrowLeft: place - 1, Home: 0, End: placed.length - 1 };
    if (event.key in moves) {
      state.pinned = null;
      highlight(placed[Math.min(Math.max(moves[event.key], 0), placed.length - 1)].row);
      const point = points[state.hot];
      live.textContent = `${point.recipe}, ${data.metric} ${range(point.q, score)}, ${point.verdict}`;
    } else if (event.key === "ArrowUp" || event.key === "ArrowDown") {
      const line = frontier(rowsInPlot());
      const step = event.key === "ArrowUp" ? 1 : -1;
      const next = line[Math.min(Math.max(line.indexOf(state.hot) + step, 0), line.length - 1)];
      if (next !== undefined) highlight(next);
    } else if (event.key === "Enter" || event.key === " ") togglePin(state.hot);
    else if (event.key === "Escape" && state.pinned !== null) togglePin(state.pinned);
    else return;
    event.preventDefault();
  });
}

// ---- controls of the plot ------------------------------------------------------------------------------------
function choice(label, options, current, pick) {
  const group = element("span", { class: "split", role: "group", "aria-label": label });
  for (const [key, name] of options) {
    group.append(element("button", {
      type: "button", "data-key": key, "aria-pressed": key === current,
      on: { click: () => {
        for (const button of group.children) button.setAttribute("aria-pressed", button.dataset.key === key);
        pick(key);
      } },
    }, name));
  }
  return group;
}

function check(name, pick) {
  const box = element("input", { type: "checkbox" });
  box.addEventListener("change", () => { pick(box.checked); draw(); });
  return element("label", {}, box, name);
}

function drawLegend() {
  const names = data.groups[state.kind];
  const counts = names.map((_, group) => points.filter((point) => point[state.kind] === group).length);
  legend.replaceChildren(...names.map((name, group) => {
    const [colour, marker] = data.styles[group];
    const icon = shape("svg", { viewBox: "-1.6 -1.6 3.2 3.2", "aria-hidden": "true" });
    icon.append(shape("path", { class: `pt v-passes c${colour}`, d: data.shapes[marker] }));
    const button = element("button", { type: "button", "aria-pressed": !state.hidden.has(group) }, icon, name, element("small", {}, String(counts[group])));
    button.addEventListener("click", () => {
      if (!state.hidden.delete(group)) state.hidden.add(group);
      button.setAttribute("aria-pressed", !state.hidden.has(group));
      draw();
    });
    return element("li", {}, button);
  }));
}

function startPlot() {
  const host = document.getElementById("plot");
  if (!host || !points.length) return;
  const axes = Object.entries(AXES).filter(([key]) => points.some((point) => point[key] > 0)).map(([key, axis]) => [key, axis.name]);
  const kinds = Object.keys(data.groups).filter((kind) => data.groups[kind].length > 1);
  const tools = element("div", { class: "tools" });
  if (axes.length > 1) tools.append(element("label", {}, "Cost ", choice("Cost", axes, state.axis, (key) => { state.axis = key; draw(); })));
  if (kinds.length > 1) {
    tools.append(element("label", {}, "Colour ", choice("Colour by", kinds.map((kind) => [kind, kind]), state.kind, (kind) => {
      state.kind = kind;
      state.hidden.clear();
      drawLegend();
      draw();
    })));
  }
  if (isNumber(data.floor)) tools.append(check("Close to the reference", (on) => { state.close = on; }));
  tools.append(check("All intervals", (on) => { state.whiskers = on; }));
  canvas = element("div", { class: "canvas" });
  inspector = element("aside", { class: "inspector", "aria-label": "The recipe under the pointer" });
  legend = element("ul", { class: "legend" });
  unplaced = element("p", { class: "fine unplaced" });
  live = element("p", { class: "unseen", "aria-live": "polite" });
  const key = element("p", { class: "fine key" },
    "Filled: within tolerance. Pale: undecided. Hollow: below tolerance or dropped. Line: the frontier. Bars: 95 % intervals.");
  host.replaceChildren(tools, element("div", { class: "stage" }, element("div", {}, canvas, legend, key, unplaced, live), inspector));
  drawLegend();
  draw();
  let last = canvas.clientWidth;
  new ResizeObserver(() => {
    if (canvas.clientWidth !== last) { last = canvas.clientWidth; draw(); }
  }).observe(canvas);
}
