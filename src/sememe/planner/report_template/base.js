"use strict";
// The page reads without its scripts (base.js, plot.js and table.js, joined in one scope): they replace the static plot by
// an interactive one, and make the table of points sortable and filterable. Text reaches the page through textContent
// only, never as markup.
const data = JSON.parse(document.getElementById("plan-data").textContent);
const points = data.points;
const MINUS = "\u2212";
const VERDICTS = {
  passes: "\u2713 within tolerance", undecided: "? undecided", fails: "\u2717 below tolerance",
  dropped: "\u2013 dropped early", reference: "\u25c6 reference",
};

const isNumber = (value) => typeof value === "number" && Number.isFinite(value);

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "on") for (const [event, act] of Object.entries(value)) made.addEventListener(event, act);
    else made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

function shape(name, attributes = {}, text = "") {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text) made.textContent = text;
  return made;
}

const three = (value) => value.toFixed(value < 10 ? 2 : value < 100 ? 1 : 0);
function size(value) {
  const units = ["B", "KB", "MB", "GB", "TB"];
  let unit = 0;
  for (; value >= 999.5 && unit < 4; unit++) value /= 1000;
  return unit ? `${three(value)} ${units[unit]}` : `${Math.round(value)} B`;
}
const milliseconds = (value) => value < 0.1 ? `${Math.round(value * 1000)} \u00b5s`
  : value < 999.5 ? `${three(value)} ms` : `${three(value / 1000)} s`;
const vectorBytes = (value) => `${value.toLocaleString("en", { maximumFractionDigits: 1 })} B`;
const score = (value) => value.toFixed(3).replace("-", MINUS);
const signed = (value) => (Math.abs(value) < 0.0005 ? "0.000" : (value > 0 ? "+" : "") + score(value));
const range = ([value, low, high], show) =>
  isNumber(low) && isNumber(high) ? `${show(value)} [${show(low)}, ${show(high)}]` : show(value);

async function copy(text, button) {
  const before = button.textContent;
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Clipboards are refused to pages without permission; a selected text area still works there.
    const area = element("textarea", { class: "unseen", "aria-hidden": "true" });
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  button.textContent = "Copied";
  setTimeout(() => { button.textContent = before; }, 1600);
}
