"use strict";
// What all parts of the page share; tables that sort, the gallery, the theme.

const overview = JSON.parse(document.getElementById("overview").textContent);
const { landmarks, unit } = overview;
const baselines = overview.methods.length - overview.runs.length; // the mean shape, if there is one
const errorsOf = (run) => overview.errors[baselines + run]; // by image, by landmark; null: unknown

const byId = (id) => document.getElementById(id);
const known = (values) => values.filter((value) => value !== null);
const mean = (values) => (values.length ? values.reduce((a, b) => a + b) / values.length : null);
const largest = (values) => values.reduce((a, b) => Math.max(a, b), -Infinity);
const shownNumber = (value, digits = 2) => (value === null ? "–" : value.toFixed(digits));

/** An element with attributes and children; text is never read as HTML. */
function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

/** The parts of a name between which a line may break. */
const parts = (name) => name.split(/(?<=[_+/])/);
const broken = (name) => parts(name).flatMap((part) => [part, element("wbr")]);

/** For sorting: numbers by size, other text as people read it, what is unknown at the end. */
function compare(a, b, sign) {
  if (a === "" || b === "") return (a === "") - (b === "");
  const difference = Number(a) - Number(b);
  return sign * (Number.isNaN(difference) ? a.localeCompare(b, "en", { numeric: true }) : difference);
}

/** Orders the rows of a table by the column whose header says so. */
function sortRows(table) {
  const header = table.querySelector("th[aria-sort]");
  if (!header) return;
  const sign = header.ariaSort === "ascending" ? 1 : -1;
  const value = (row) => row.cells[header.cellIndex].dataset.value;
  const rows = [...table.tBodies[0].rows];
  table.tBodies[0].append(...rows.sort((a, b) => compare(value(a), value(b), sign)));
}

for (const table of document.querySelectorAll("table.sortable")) {
  table.tHead.addEventListener("click", (event) => {
    const header = event.target.closest("button")?.closest("th");
    if (!header) return;
    const next = header.ariaSort === "descending" ? "ascending" : "descending";
    for (const other of table.tHead.querySelectorAll("th")) other.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", next);
    sortRows(table);
  });
}

const boxes = new ResizeObserver((entries) => {
  for (const { target } of entries) {
    const box = target.closest(".scroll");
    box.classList.toggle("wide", box.scrollWidth > box.clientWidth);
  }
});
for (const box of document.querySelectorAll(".scroll")) {
  boxes.observe(box);
  boxes.observe(box.firstElementChild);
}

const gallery = byId("gallery");
const imagesInOrder = () =>
  [...gallery.querySelectorAll("button")].map((button) => Number(button.dataset.image));

function sortGallery() {
  const [what, number] = byId("order").value.split(" ");
  const run = Number(number);
  const smallestFirst = byId("direction").ariaPressed === "true";
  const values = {
    mean: (i) => mean(known(errorsOf(run)[i])),
    largest: (i) => (known(errorsOf(run)[i]).length ? largest(known(errorsOf(run)[i])) : null),
    difference: (i) => {
      const [first, other] = [0, run].map((r) => mean(known(errorsOf(r)[i])));
      return first === null || other === null ? null : other - first;
    },
    id: (i) => overview.ids[i],
  };
  const key = overview.ids.map((_, i) => String(values[what](i) ?? ""));
  const sign = smallestFirst ? 1 : -1;
  const items = [...gallery.children];
  const index = (item) => item.firstElementChild.dataset.image;
  gallery.append(...items.sort((a, b) => compare(key[index(a)], key[index(b)], sign)));
  const chosen = byId("order").selectedOptions[0].textContent;
  byId("sorted").textContent = `by ${chosen}, ${smallestFirst ? "smallest" : "largest"} first`;
}

byId("order").addEventListener("change", sortGallery);
byId("direction").addEventListener("click", ({ currentTarget }) => {
  currentTarget.ariaPressed = String(currentTarget.ariaPressed !== "true");
  sortGallery();
});

const systemIsDark = matchMedia("(prefers-color-scheme: dark)");
const themed = []; // what draws with the colours of the theme

function isDark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : systemIsDark.matches;
}

function applyTheme() {
  byId("theme").ariaPressed = String(isDark());
  for (const draw of themed) draw();
}

byId("theme").addEventListener("click", () => {
  document.documentElement.dataset.theme = isDark() ? "light" : "dark";
  applyTheme();
});
systemIsDark.addEventListener("change", applyTheme);
for (const [event, printed] of [["beforeprint", true], ["afterprint", false]]) {
  addEventListener(event, () => {
    document.documentElement.classList.toggle("printed", printed);
    const charts = [...document.querySelectorAll(".js-plotly-plot")].filter((one) => one.checkVisibility());
    for (const chart of charts) Plotly.relayout(chart, { autosize: true });
    applyTheme();
  });
}
