// A Vega-Lite chart that lives as long as its page: it is built once, then only its data is
// replaced, so that zoom, legend selections and the DOM node survive new results. It is rebuilt
// only when the chart or the theme changes.

const colour = (element, name) => getComputedStyle(element).getPropertyValue(`--st-${name}`).trim();

// On a telephone, a legend beside the chart would leave it no room.
const NARROW = 560, BELOW = {
  orient: "bottom", direction: "vertical",
  layout: { bottom: { direction: "vertical", anchor: "start", margin: 8 } },
};

function theme(element) {
  const text = colour(element, "text-color"), quiet = colour(element, "gray-text-color") || text;
  const font = colour(element, "font") || "sans-serif";
  const labels = {
    labelColor: quiet, titleColor: text,
    labelFontSize: 12, titleFontSize: 12.5, titleFontWeight: 500,
  };
  return {
    background: null, font, title: { color: text, subtitleColor: quiet, anchor: "start" },
    axis: { ...labels, gridColor: quiet, domainColor: quiet, tickColor: quiet, titlePadding: 10 },
    legend: { ...labels, ...(element.clientWidth < NARROW ? BELOW : {}) },
    header: labels, view: { stroke: null },
    text: { color: text }, rule: { color: quiet },
  };
}

const LEAST_PANEL = 350;
const PANELS = ["hconcat", "vconcat", "concat", "facet", "repeat"];
const hasPanels = (chart) => PANELS.some((key) => key in chart);

// How many panels lie beside one another: 0 for a single chart, -1 if unknown.
function numColumns({ chart, datasets }) {
  const field = chart.facet?.column?.field ?? chart.facet?.field;
  if (!hasPanels(chart)) return 0;
  if (!chart.facet?.row && !field) return -1;
  const num = new Set(Object.values(datasets).flat().map((row) => row[field])).size || 1;
  return Math.min(num, chart.columns ?? num);
}

// Panels that wrap lie below one another where two of readable width do not fit.
const wrapped = (chart, width) =>
  chart.columns && width && width < 2 * LEAST_PANEL ? { ...chart, columns: 1 } : chart;

// The libraries are set as globals by another component of the page, which may still be loading.
async function library() {
  while (!window.vegaEmbed) await new Promise((resume) => setTimeout(resume, 20));
  return window.vegaEmbed;
}

async function build(root, { chart, datasets, dark }, signature, style) {
  const embed = await library();
  const sized = hasPanels(chart)
    ? {}
    : { width: root.clientWidth, autosize: { type: "fit-x", contains: "padding" } };
  const num_rows = Object.values(datasets).reduce((sum, rows) => sum + rows.length, 0);
  root.live?.finalize();
  const result = await embed(root.querySelector(".canvas"), { ...chart, ...sized, datasets }, {
    mode: "vega-lite", actions: false, renderer: num_rows > 6000 ? "canvas" : "svg",
    config: style, tooltip: { theme: dark ? "dark" : "light" },
  });
  if ("ink" in result.view.getState().signals) {
    await result.view.signal("ink", style.text.color).runAsync();
  }
  result.view.addEventListener("click", (_, item) => {
    const datum = item?.datum?.datum ?? item?.datum;
    if (datum?.measurement != null) root.pick(datum.measurement);
  });
  root.live = { view: result.view, finalize: result.finalize, signature };
  offerReset(root, result.view);
}

// The button that shows the whole figure again stands there once a panel was moved or zoomed. A
// double click does the same; the library offers no other way that reaches the panels.
function offerReset(root, view) {
  const button = root.querySelector(".reset"), zoomed = () => { button.hidden = false; };
  button.hidden = true;
  let pressed = false;
  view.addEventListener("wheel", (event) => (event.ctrlKey || event.metaKey) && zoomed());
  view.addEventListener("pointerdown", () => { pressed = true; });
  view.addEventListener("pointermove", (event) => pressed && event.buttons && zoomed());
  view.addEventListener("pointerup", () => { pressed = false; });
  view.addEventListener("dblclick", () => { button.hidden = true; });
  button.onclick = () => {
    const anywhere = root.querySelector(".canvas svg .background, .canvas canvas");
    anywhere.dispatchEvent(new MouseEvent("dblclick", { bubbles: true }));
  };
}

async function show(root, received) {
  const data = { ...received, chart: wrapped(received.chart, root.clientWidth) };
  const style = theme(root);
  const signature = JSON.stringify([data.chart, style]);
  if (root.live?.signature !== signature) await build(root, data, signature, style);
  else {
    const view = root.live.view;
    for (const [name, rows] of Object.entries(data.datasets)) view.data(name, rows);
    await view.runAsync();
  }
  root.live.columns = numColumns(data);
  resize(root);
  root.dataset.version = data.version;
  root.querySelector(".fault").textContent = "";
  if (data.focus && !root.focused) scrollToFigure(root);
}

// An address may name a figure. Content above it may still grow, so it is scrolled to twice.
function scrollToFigure(root) {
  root.focused = true;
  const scroll = () => root.scrollIntoView({ block: "center" });
  scroll();
  setTimeout(scroll, 900);
}

// A single chart takes the available width; panels beside one another share what their axes and
// legend leave.
function resize(root) {
  const { view, columns } = root.live ?? {}, width = root.clientWidth;
  if (!view || !width) return;
  if (columns === 0 && Math.abs(view.width() - width) > 1) view.width(width).resize().runAsync();
  if (columns > 0) {
    const panel = view.signal("child_width");
    const drawn = root.querySelector(".canvas svg, .canvas canvas").clientWidth;
    const wanted = Math.max(160, Math.min(620, Math.floor(panel + (width - drawn) / columns)));
    if (Math.abs(wanted - panel) > 1) view.signal("child_width", wanted).resize().runAsync();
  }
}

export default function ({ data, parentElement, setTriggerValue }) {
  const root = parentElement.querySelector(".ucurve-chart");
  root.pick = (measurement) => setTriggerValue("picked", measurement);
  root.latest = data;
  // One update at a time; of several that arrive meanwhile only the last is drawn.
  const draw = () => (root.latest === data ? show(root, data) : null);
  root.queue = (root.queue ?? Promise.resolve()).then(draw).catch((error) => {
    root.querySelector(".fault").textContent = `This figure cannot be drawn: ${error.message}`;
    console.error(error);
  });
  root.observer ??= new ResizeObserver(() => resize(root));
  root.observer.observe(root);
  return () => {
    root.observer.disconnect();
    root.live?.finalize();
    root.live = undefined;
  };
}
