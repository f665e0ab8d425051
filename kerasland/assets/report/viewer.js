// The opened image: radiograph, points, heatmap, ellipses, zoom and pan, correlation maps.

const viewer = byId("viewer");
const stage = byId("stage");
const LARGEST_ZOOM = 40;
const LANDMARK_MM = 25; // shown about a landmark
const shown = { index: 0, image: null, landmark: 0, fitted: null };

const chosenRun = () => Number(byId("run").value);
const ofRun = () => shown.image.runs[chosenRun()];
const errorOf = (run) => run[`error_${unit}`];
const pointColor = (run) => color(`point-${overview.styles[run][0]}`);
const isPredictionOn = (run) =>
  isOn("predicted") && (byId("runs")?.querySelector(`[value="${run}"]`).checked ?? true);
const isOn = (layer) => byId("layers").querySelector(`[value=${layer}]`).checked;

/** Opens an image at a landmark, by default the one that is furthest off; back closes it again,
 * unless it was opened by following the address. */
function openImage(index, landmark, followed = false) {
  shown.index = index;
  shown.image = JSON.parse(byId(`view-${index}`).textContent);
  const errors = errorOf(ofRun()).map((error) => error ?? -1);
  shown.landmark = landmark ?? errors.indexOf(largest(errors));
  const order = imagesInOrder();
  byId("viewer-title").textContent = `Image ${shown.image.id}`;
  byId("announcement").textContent =
    `Image ${shown.image.id}, ${order.indexOf(index) + 1} of ${order.length}`;
  const opening = !viewer.open;
  if (opening) {
    viewer.showModal();
    byId("viewer-title").focus();
  }
  stage.setAttribute("aria-label", `Radiograph ${shown.image.id} with its landmarks`);
  describeRun();
  document.querySelectorAll("#runs output").forEach((output, run) => {
    output.textContent = shownNumber(mean(known(errorOf(shown.image.runs[run]))));
  });
  fillPoints();
  drawStage(true);
  drawMaps();
  noteAddress(opening && !followed ? "pushState" : "replaceState");
}

/** Names what is shown in the address of the page, by which others can open it. */
function noteAddress(how) {
  const place = { image: shown.image.id, landmark: landmarks[shown.landmark] };
  setAddress(how, `#${new URLSearchParams(place)}`);
}

/** Changes the address; the state of the history is whether back closes the image. */
function setAddress(how, address) {
  try {
    history[how](how === "pushState" || history.state, "", address);
  } catch { // a frame whose address is not its own, or too many changes for the browser
  }
}

const addressed = () => new URLSearchParams(location.hash.slice(1));

function followAddress() {
  const [index, landmark] = [[overview.ids, "image"], [landmarks, "landmark"]]
    .map(([names, key]) => names.indexOf(addressed().get(key)));
  if (index >= 0) openImage(index, landmark < 0 ? undefined : landmark, true);
  else if (viewer.open) viewer.close();
}

function describeRun() {
  const name = overview.runs.length > 1 ? `${overview.runs[chosenRun()]}: ` : "";
  byId("viewer-errors").replaceChildren(...broken(name + errorsInWords(errorOf(ofRun()))));
}

function errorsInWords(errors) {
  const worst = largest(known(errors));
  if (!known(errors).length) return "no error known";
  const where = landmarks[errors.indexOf(worst)];
  return `mean ${shownNumber(mean(known(errors)))}, largest ${worst.toFixed(2)} ${unit} (${where})`;
}

/** Goes on in the order of the gallery, from its end to its beginning. */
function step(by) {
  const order = imagesInOrder();
  openImage(order.at((order.indexOf(shown.index) + by) % order.length));
}

function fillPoints() {
  const cell = (value, digits) =>
    element("td", { "data-value": value ?? "" }, shownNumber(value, digits));
  const rows = landmarks.map((name, k) => {
    const pressed = String(k === shown.landmark);
    const button = element("button", { type: "button", "aria-pressed": pressed }, ...broken(name));
    button.addEventListener("click", () => choose(k));
    return element("tr", {},
      element("th", { scope: "row", "data-value": name }, button),
      ...shown.image.runs.map((run) => cell(errorOf(run)[k], 2)),
      cell(ofRun().confidence[k], 2));
  });
  const table = byId("points");
  const focused = table.tBodies[0].contains(document.activeElement);
  table.tBodies[0].replaceChildren(...rows);
  sortRows(table);
  if (focused) table.querySelector("[aria-pressed=true]").focus();
}

/** Brightens or darkens the radiograph, not what is drawn on it. */
function applyWindow() {
  const [brightness, contrast] = ["brightness", "contrast"].map((id) => byId(id).value);
  const picture = stage.querySelector(".layer-below image");
  if (picture) picture.style.filter = `brightness(${brightness}%) contrast(${contrast}%)`;
}

function choose(k) {
  shown.landmark = k;
  for (const button of byId("points").tBodies[0].querySelectorAll("button")) {
    button.ariaPressed = String(button.textContent === landmarks[k]);
  }
  drawStage();
  noteAddress("replaceState");
}

/** Draws the radiograph with its layers; the view stays unless it is to fit anew. */
function drawStage(fit = false) {
  const { image } = shown;
  const view = fit ? null : currentView();
  refit(stage);
  const place = { xref: "x", yref: "y", xanchor: "left", yanchor: "top", layer: "below", sizing: "stretch" };
  const images = [{
    ...place, source: `data:image/jpeg;base64,${image.picture}`,
    x: -0.5, y: -0.5, sizex: image.covers[0], sizey: image.covers[1],
  }];
  if (isOn("heatmap")) {
    const [x, y, sizex, sizey, png] = ofRun().heatmaps[shown.landmark];
    images.push({ ...place, source: `data:image/png;base64,${png}`, x, y, sizex, sizey });
  }
  const hidden = { visible: false, constrain: "range" };
  const drawn = Plotly.react(stage, stageTraces(), {
    paper_bgcolor: "#000", plot_bgcolor: "#000", images,
    margin: { l: 0, r: 0, t: 0, b: 0 }, dragmode: "pan", hovermode: "closest", showlegend: false,
    hoverlabel: hoverLabel(),
    xaxis: { ...hidden, range: view?.x ?? [-0.5, image.width - 0.5] },
    yaxis: { ...hidden, range: view?.y ?? [image.height - 0.5, -0.5], scaleanchor: "x" },
  }, { displayModeBar: false, scrollZoom: true, responsive: true, doubleClick: false });
  if (fit) shown.fitted = widthOf(currentView());
  onClick(stage, choose);
  stage.removeAllListeners("plotly_relayout");
  stage.on("plotly_relayout", sayZoom);
  drawn.then(() => { sayZoom(); applyWindow(); });
  // what is drawn is named by the stage; the table beside it says the same to the keyboard
  for (const svg of stage.querySelectorAll("svg.main-svg")) svg.setAttribute("aria-hidden", "true");
}

function stageTraces() {
  const { image } = shown;
  const scatter = (points, more) => ({
    x: points.map((point) => point?.[0] ?? null),
    y: points.map((point) => point?.[1] ?? null),
    ...more,
  });
  const segments = (parts) => scatter(parts.flatMap((part) => [...part, null]), {
    mode: "lines", hoverinfo: "skip",
  });
  const traces = [];
  image.runs.forEach((run, i) => {
    if (!isPredictionOn(i) || !isOn("annotated")) return;
    const errors = run.points.map((point, k) => [point, image.truth[k]]);
    traces.push({ ...segments(errors), line: { color: pointColor(i), width: 1.5 } });
  });
  if (isOn("ellipses")) {
    const ellipses = ofRun().points.map((point, k) => ellipse(point, ofRun().spreads[k]));
    traces.push({ ...segments(ellipses), line: { color: pointColor(chosenRun()), width: 1 } });
  }
  const marks = { mode: "markers", hoverinfo: "text", customdata: landmarks.map((_, k) => k) };
  if (isOn("annotated")) {
    traces.push(scatter(image.truth, {
      ...marks,
      text: landmarks.map((name) => `${plain(name)}<br>annotated`),
      marker: { symbol: "circle-open", size: 11, color: color("annotated"), line: { width: 2 } },
    }));
  }
  const edge = { width: 1, color: "#000" };
  image.runs.forEach((run, i) => {
    if (!isPredictionOn(i)) return;
    traces.push(scatter(run.points, {
      ...marks,
      text: landmarks.map((name, k) => `${plain(name)}<br>${hoverText(run, i, k)}`),
      marker: { symbol: symbolOf(i), size: 7, color: pointColor(i), line: edge },
    }));
  });
  const chosen = ofRun().points[shown.landmark];
  traces.push(scatter([chosen, chosen], { // white with a black edge, to be seen on any ground
    mode: "markers", hoverinfo: "skip",
    marker: { symbol: "circle-open", size: [30, 27], color: ["#000", "#fff"], line: { width: 2 } },
  }));
  return traces;
}

function hoverText(run, i, k) {
  const errors = [[run.error_mm[k], 2, "mm"], [run.error_px[k], 1, "px"]];
  const texts = errors.map(([error, digits, of]) => error !== null && `${error.toFixed(digits)} ${of}`);
  const error = texts.filter(Boolean).join(" = ") || "not annotated";
  return `${runOf(i)}${error}<br>confidence ${shownNumber(run.confidence[k])}`;
}

/** The outline two standard deviations about a point, of the covariance (xx, xy, yy). */
function ellipse([x, y], [xx, xy, yy]) {
  const a = Math.sqrt(Math.max(xx, 1e-9));
  const b = xy / a;
  const c = Math.sqrt(Math.max(yy - b * b, 0));
  return Array.from({ length: 37 }, (_, i) => {
    const [cos, sin] = [Math.cos, Math.sin].map((f) => f((i * Math.PI) / 18));
    return [x + 2 * a * cos, y + 2 * (b * cos + c * sin)];
  });
}

const currentView = () => ({ x: [...stage.layout.xaxis.range], y: [...stage.layout.yaxis.range] });
const widthOf = (view) => view.x[1] - view.x[0];
const within = (zoom) => Math.min(LARGEST_ZOOM, Math.max(0.5, zoom));

function sayZoom() {
  byId("zoom").textContent = `${Math.round((100 * shown.fitted) / widthOf(currentView()))} %`;
}

/** Shows the neighbourhood of a point, by default the centre, at a zoom relative to the fit. */
function lookAt(zoom, centre) {
  const view = currentView();
  const factor = shown.fitted / within(zoom) / widthOf(view);
  const range = ([from, to], middle = (from + to) / 2) =>
    [middle - (factor * (to - from)) / 2, middle + (factor * (to - from)) / 2];
  Plotly.relayout(stage, {
    "xaxis.range": range(view.x, centre?.[0]),
    "yaxis.range": range(view.y, centre?.[1]),
  });
}

const zoomNow = () => shown.fitted / widthOf(currentView());

let grip = null; // of two fingers: as `fingers`, the zoom, and the place in the image between them

function fingers([a, b]) {
  const { x, y } = stage.getBoundingClientRect();
  return {
    apart: Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY),
    x: (a.clientX + b.clientX) / 2 - x - stage.clientWidth / 2,
    y: (a.clientY + b.clientY) / 2 - y - stage.clientHeight / 2,
  };
}

/** Pixels of the image a pixel of the screen, at a zoom. */
const fineness = (zoom) => shown.fitted / within(zoom) / stage.clientWidth;

/** Two fingers zoom and move the image; plotly would take them for one. */
function pinch(event) {
  const { type, touches } = event;
  if (touches.length < 2 && !grip) return;
  if (type !== "touchend" && type !== "touchcancel") {
    event.preventDefault();
    event.stopPropagation();
  }
  if (type === "touchstart") {
    swiped = true; // what ends here and below is no click
    document.dispatchEvent(new Event("touchend")); // plotly lets go of the first finger
    const { x, y } = currentView();
    const [zoom, now] = [zoomNow(), fingers(touches)];
    const centre = [x, y].map(([from, to]) => (from + to) / 2);
    grip = { ...now, zoom, place: [now.x, now.y].map((at, i) => centre[i] + at * fineness(zoom)) };
  } else if (type === "touchmove" && touches.length > 1) {
    const now = fingers(touches);
    const zoom = (grip.zoom * now.apart) / grip.apart;
    lookAt(zoom, [now.x, now.y].map((at, i) => grip.place[i] - at * fineness(zoom)));
  } else if (!touches.length) {
    grip = null;
  }
}

function move(right, down) {
  const { x, y } = currentView();
  const by = 0.15 * Math.min(x[1] - x[0], y[0] - y[1]);
  lookAt(zoomNow(), [(x[0] + x[1]) / 2 + by * right, (y[0] + y[1]) / 2 + by * down]);
}

function zoomToLandmark() {
  const { image, landmark } = shown;
  const { error_mm, error_px } = ofRun();
  const known_mm = error_mm.findIndex((error, k) => error > 0 && error_px[k] > 0);
  const width_px = known_mm < 0 ? image.width / 8
    : (LANDMARK_MM * error_px[known_mm]) / error_mm[known_mm];
  lookAt(shown.fitted / width_px, ofRun().points[landmark]);
}

function drawMaps() {
  if (!byId("correlation").open || !viewer.open) return;
  refit(byId("maps"));
  const size = landmarks.length;
  const floats = (text) =>
    new Float32Array(Uint8Array.from(atob(text), (sign) => sign.charCodeAt(0)).buffer);
  const [predicted, annotated] = [ofRun().predicted, ofRun().annotated].map(floats);
  const difference = predicted.map((value, i) => value - annotated[i]);
  const finite = (values) => [...values].filter(Number.isFinite);
  const both = [...finite(predicted), ...finite(annotated)];
  const reach = Math.max(1e-6, largest(finite(difference).map(Math.abs)));
  const names = landmarks.map(plain);
  const bar = { len: 0.42, thickness: 10, x: 0.56, xanchor: "left", y: 0.21, tickfont: { size: 10 } };
  const map = (values, number, more) => ({
    type: "heatmap", x: names, y: names, xaxis: `x${number}`, yaxis: `y${number}`,
    z: Array.from({ length: size }, (_, k) => values.subarray(k * size, (k + 1) * size)),
    hovertemplate: "%{y}<br>%{x}<br>%{z:.3f}<extra></extra>", ...more,
  });
  const range = { colorscale: "Viridis", zmin: -largest(both.map((value) => -value)), zmax: largest(both) };
  const places = [[[0, 0.47], [0.54, 0.96]], [[0.53, 1], [0.54, 0.96]], [[0, 0.47], [0, 0.42]]];
  const axes = places.flatMap(([x, y], i) => [
    [`xaxis${i + 1}`, { domain: x, anchor: `y${i + 1}`, visible: false, type: "category" }],
    [`yaxis${i + 1}`, { domain: y, anchor: `x${i + 1}`, visible: false, type: "category", autorange: "reversed" }],
  ]);
  const titles = ["Predicted", "Annotated", "Predicted − annotated"].map((text, i) => ({
    text, showarrow: false, xref: "paper", yref: "paper",
    x: places[i][0][0], y: places[i][1][1], xanchor: "left", yanchor: "bottom",
  }));
  Plotly.react("maps", [
    map(predicted, 1, { ...range, colorbar: { ...bar, title: { text: "map" } } }),
    map(annotated, 2, { ...range, showscale: false }),
    map(difference, 3, {
      colorscale: "RdBu", zmin: -reach, zmax: reach,
      colorbar: { ...bar, x: 0.78, title: { text: "difference" } },
    }),
  ], layout({ ...Object.fromEntries(axes), annotations: titles, margin: { l: 0, r: 0, t: 4, b: 0 } }), QUIET);
  const off = finite(difference).map(Math.abs);
  byId("correlation-note").textContent =
    `Similarity of the spatial feature vectors of each two landmarks. Mean absolute difference: ` +
    `${off.length ? mean(off).toFixed(4) : "unknown, nothing is annotated"}.`;
}

const KEYS = {
  ArrowLeft: () => step(-1), ArrowRight: () => step(1), "+": () => lookAt(1.5 * zoomNow()),
  "=": () => lookAt(1.5 * zoomNow()), "-": () => lookAt(zoomNow() / 1.5),
  0: () => drawStage(true), z: zoomToLandmark,
};
const MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

document.addEventListener("keydown", (event) => {
  if (!viewer.open || event.ctrlKey || event.metaKey || event.altKey || event.target.matches("select, [type=range], .wide")) return;
  const moves = event.shiftKey && MOVES[event.key];
  const action = moves ? () => move(...moves) : KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (!action) return;
  event.preventDefault();
  action();
});
const focusShown = () => gallery.querySelector(`[data-image="${shown.index}"]`).focus();
viewer.addEventListener("close", () => {
  focusShown();
  if (!addressed().has("image")) return; // back has closed it
  if (history.state) {
    // the address before, such as #images, takes the focus
    addEventListener("hashchange", focusShown, { once: true });
    history.back();
  } else setAddress("replaceState", location.pathname + location.search);
});
addEventListener("hashchange", followAddress);
for (const [id, key] of [["previous", "ArrowLeft"], ["next", "ArrowRight"], ["zoom-in", "+"],
  ["zoom-out", "-"], ["zoom-fit", "0"], ["zoom-landmark", "z"]]) {
  byId(id).addEventListener("click", KEYS[key]);
}
byId("close").addEventListener("click", () => viewer.close());
byId("window").addEventListener("input", applyWindow);
for (const id of ["layers", "runs"]) byId(id)?.addEventListener("change", () => drawStage());
byId("run").addEventListener("change", () => { describeRun(); fillPoints(); drawStage(); drawMaps(); });
byId("correlation").addEventListener("toggle", drawMaps);
for (const type of ["touchstart", "touchmove", "touchend", "touchcancel"]) {
  stage.addEventListener(type, pinch, { capture: true, passive: false });
}
gallery.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button) openImage(Number(button.dataset.image));
});

themed.push(drawMaps);
sortGallery();
applyTheme();
followAddress();
