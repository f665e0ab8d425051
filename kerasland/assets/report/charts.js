// The charts of the overview, drawn with plotly in the colours of the theme.

const probe = document.body.appendChild(
  element("span", { hidden: "", style: "forced-color-adjust: none" }),
);
const DASHES = ["solid", "dash", "dot", "dashdot"]; // as report.css has them
const SYMBOLS = ["circle", "diamond", "square", "triangle-up"]; // as template.html has them
const LINE_LENGTH = 34; // of an axis title or a tick
const QUIET = { displayModeBar: false, responsive: true };

/** A colour of report.css as plotly wants it. */
function color(name) {
  probe.style.color = `var(--${name})`;
  return getComputedStyle(probe).color;
}

/** Gives a chart the size of its place, which plotly misses while it is hidden. */
function refit(chart) {
  const svg = chart.querySelector(".main-svg");
  const [width, height] = ["width", "height"].map((side) => svg?.[side].baseVal.value);
  if (svg && (width !== chart.clientWidth || height !== chart.clientHeight)) {
    Plotly.relayout(chart, { autosize: true });
  }
}

/** Text that plotly shows as it is: it takes some HTML in names for markup. */
const plain = (text) => text.replace(/[&<>]/g, (sign) => `&#${sign.charCodeAt(0)};`);
const runColor = (run) => color(`run-${overview.styles[run][0]}`);
const dashOf = (run) => DASHES[overview.styles[run][1]];
const symbolOf = (run) => SYMBOLS[overview.styles[run][1]];

/** How a hover text names a run among several. */
const runOf = (run) => (overview.runs.length > 1 ? `${plain(overview.runs[run])}<br>` : "");

/** Whether the legend of a chart, where it has one, lets its i-th entry be shown. */
const isShown = (chart, i) =>
  byId(`${chart}-legend`)?.children[i].firstElementChild.ariaPressed !== "false";

/** A name in lines for plotly. */
function inLines(name) {
  const lines = [""];
  for (const part of parts(name)) {
    if (lines.at(-1) && (lines.at(-1) + part).length > LINE_LENGTH) lines.push("");
    lines[lines.length - 1] += part;
  }
  return lines.map(plain).join("<br>");
}

/** A name in one line. */
const shortened = (name) =>
  plain(name.length > LINE_LENGTH ? `${name.slice(0, LINE_LENGTH / 2)}…${name.slice(-LINE_LENGTH / 2 + 1)}` : name);

const axis = (more) => ({ gridcolor: color("line"), zeroline: false, automargin: true, ...more });

const hoverLabel = () => ({
  bgcolor: color("raised"), bordercolor: color("line"), font: { color: color("ink") },
});

function layout(more) {
  return {
    paper_bgcolor: "transparent",
    plot_bgcolor: "transparent",
    font: { family: getComputedStyle(document.body).fontFamily, size: 13, color: color("ink") },
    hoverlabel: hoverLabel(),
    margin: { l: 10, r: 10, t: 10, b: 10 },
    dragmode: false,
    hovermode: "closest",
    showlegend: false,
    ...more,
  };
}

const line = (more) => ({
  type: "line",
  layer: "between", // above the grid
  line: { color: color("muted"), width: 1, dash: "dash" },
  ...more,
});

const upright = (x, [y0, y1]) => line({ x0: x, x1: x, y0, y1 });

function drawCurves() {
  const traces = overview.methods.map((name, i) => {
    const errors = known(overview.errors[i].flat()).sort((a, b) => a - b);
    const run = i - baselines;
    return {
      x: errors,
      y: errors.map((_, k) => (100 * (k + 1)) / errors.length),
      name: plain(name),
      visible: isShown("curves", i),
      mode: "lines",
      line: {
        shape: "hv",
        width: 2,
        color: run < 0 ? color("muted") : runColor(run),
        dash: run < 0 ? "dot" : dashOf(run),
      },
      hovertemplate: `${plain(name)}<br>%{y:.1f} % within %{x:.2f} ${unit}<extra></extra>`,
    };
  });
  const all = traces.flatMap((trace) => trace.x).filter((x) => x > 0);
  const least = unit === "mm" ? 0.1 : -largest(all.map((x) => -x));
  const range = [0, 101];
  const ticks = [-2, -1, 0, 1, 2, 3].flatMap((n) => [1, 2, 5].map((digit) => digit * 10 ** n));
  Plotly.react("curves", traces, layout({
    xaxis: axis({
      type: "log",
      title: { text: `error, ${unit}` },
      range: [least, 1.05 * largest(all)].map(Math.log10),
      tickvals: ticks,
      ticktext: ticks.map((x) => String(Number(x.toPrecision(1)))),
    }),
    yaxis: axis({ title: { text: "points, %" }, range }),
    shapes: unit === "mm" ? [2, 4].map((x) => upright(x, range)) : [],
  }), QUIET);
}

function drawStrip() {
  const count = overview.runs.length;
  const band = count > 2 ? 0.75 : 0.5; // of a landmark's row
  const traces = overview.runs.map((name, run) => {
    const points = errorsOf(run)
      .flatMap((of, image) => of.map((error, k) => ({ error, k, image })))
      .filter((point) => point.error !== null);
    return {
      type: "box",
      orientation: "h",
      x: points.map((point) => point.error),
      y: points.map((point) => point.k + band * ((run + 0.5) / count - 0.5)),
      width: (0.8 * band) / count,
      customdata: points.map((point) => [point.image, point.k]),
      text: points.map(
        ({ error, k, image }) =>
          `${runOf(run)}${plain(landmarks[k])}<br>image ${plain(overview.ids[image])}, ${error.toFixed(2)} ${unit}`,
      ),
      name: plain(name),
      visible: isShown("strip", run),
      hoverinfo: "text",
      hoveron: "points",
      boxpoints: overview.points,
      jitter: 0,
      pointpos: 0,
      line: { color: runColor(run), width: 1 },
      marker: { color: runColor(run), size: 7, opacity: 0.6, symbol: symbolOf(run) },
    };
  });
  const strip = byId("strip");
  const range = [landmarks.length - 0.4, -0.6];
  Plotly.react(strip, traces, layout({
    height: 90 + Math.max(19, 5 * count) * landmarks.length,
    xaxis: axis({ title: { text: `error, ${unit}` }, rangemode: "tozero", side: "bottom" }),
    yaxis: axis({
      tickvals: landmarks.map((_, k) => k),
      ticktext: landmarks.map(shortened),
      tickfont: { size: 11 },
      range,
    }),
    shapes: overview.far === null ? [] : [upright(overview.far, range)],
  }), QUIET);
  onClick(strip, ([image, k]) => openImage(image, k));
}

function drawComparison(chart) {
  const run = Number(chart.dataset.run);
  const rows = overview.ids
    .map((id, image) => ({ id, image, means: [0, run].map((r) => mean(known(errorsOf(r)[image]))) }))
    .filter(({ means }) => !means.includes(null));
  const all = rows.flatMap(({ means }) => means);
  const ends = [-0.9 * largest(all.map((value) => -value)), 1.08 * largest(all)];
  const title = (r) => ({ text: inLines(`${overview.runs[r]}, ${unit}`), font: { size: 13 } });
  Plotly.react(chart, [{
    x: rows.map(({ means }) => means[0]),
    y: rows.map(({ means }) => means[1]),
    customdata: rows.map(({ image }) => [image]),
    text: rows.map(
      ({ id, means }) =>
        `image ${plain(id)}<br>${means.map((value) => value.toFixed(2)).join(" → ")} ${unit}`,
    ),
    hoverinfo: "text",
    mode: "markers",
    marker: { color: runColor(run), size: 10, opacity: 0.8, symbol: symbolOf(run) },
  }], layout({
    xaxis: axis({ title: title(0), range: ends }),
    yaxis: axis({ title: title(run), range: ends }),
    shapes: [line({ x0: ends[0], y0: ends[0], x1: ends[1], y1: ends[1] })],
  }), QUIET);
  onClick(chart, ([image]) => openImage(image));
}

// plotly takes the end of a swipe that scrolls the page for a click
let swiped = false;
for (const type of ["pointerdown", "pointercancel"]) {
  addEventListener(type, () => { swiped = type === "pointercancel"; }, true);
}

/** Calls back with what the clicked point carries; set once for each chart. */
function onClick(chart, callback) {
  chart.removeAllListeners("plotly_click");
  chart.on("plotly_click", (event) => {
    const carried = event.points[0].customdata;
    if (carried !== undefined && !swiped) callback(carried);
  });
}

for (const [id, draw] of [["curves", drawCurves], ["strip", drawStrip]]) {
  byId(`${id}-legend`)?.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    button.ariaPressed = String(button.ariaPressed !== "true");
    draw();
  });
}

themed.push(drawCurves, drawStrip, () =>
  document.querySelectorAll(".comparison").forEach(drawComparison),
);
