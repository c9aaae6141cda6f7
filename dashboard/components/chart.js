// A Vega-Lite chart that lives as long as its page: it is built once, then only its data is swapped, so that zoom,
// legend choices and the DOM node itself survive every new result. Rebuilt only when the chart or the theme changes.

const colour = (element, name) => getComputedStyle(element).getPropertyValue(`--st-${name}`).trim();

function theme(element) {
  const text = colour(element, "text-color"), quiet = colour(element, "gray-text-color") || text;
  const font = colour(element, "font") || "sans-serif";
  const labels = { labelColor: quiet, titleColor: text, labelFontSize: 12, titleFontSize: 12.5, titleFontWeight: 500 };
  return {
    background: null, font, title: { color: text, subtitleColor: quiet, anchor: "start" },
    axis: { ...labels, gridColor: quiet, domainColor: quiet, tickColor: quiet, titlePadding: 10 },
    legend: labels, header: labels, view: { stroke: null }, text: { color: text }, rule: { color: quiet },
  };
}

const composed = (chart) => ["hconcat", "vconcat", "concat", "facet", "repeat"].some((key) => key in chart);

// How many panels lie beside one another: 0 for a single chart, -1 if unknown.
function columns_of({ chart, datasets }) {
  const field = chart.facet?.column?.field;
  if (!composed(chart)) return 0;
  return chart.facet?.row || field ? new Set(Object.values(datasets).flat().map((row) => row[field])).size || 1 : -1;
}

// JSON has no infinity; the browser's globals are set by the page's other element, which may still be loading.
async function library() {
  while (!window.vegaEmbed) await new Promise((resume) => setTimeout(resume, 20));
  return window.vegaEmbed;
}

async function build(root, { chart, datasets, dark }, signature, style) {
  const embed = await library();
  const sized = composed(chart) ? {} : { width: root.clientWidth, autosize: { type: "fit-x", contains: "padding" } };
  const num_rows = Object.values(datasets).reduce((sum, rows) => sum + rows.length, 0);
  root.live?.finalize();
  const result = await embed(root.querySelector(".canvas"), { ...chart, ...sized, datasets }, {
    mode: "vega-lite", actions: false, renderer: num_rows > 6000 ? "canvas" : "svg",
    config: style, tooltip: { theme: dark ? "dark" : "light" },
  });
  if ("ink" in result.view.getState().signals) await result.view.signal("ink", style.text.color).runAsync();
  result.view.addEventListener("click", (_, item) => {
    const datum = item?.datum?.datum ?? item?.datum;
    if (datum?.measurement != null) root.pick(datum.measurement);
  });
  root.live = { view: result.view, finalize: result.finalize, signature };
}

async function show(root, data) {
  const style = theme(root);
  const signature = JSON.stringify([data.chart, style]);
  if (root.live?.signature !== signature) await build(root, data, signature, style);
  else {
    const view = root.live.view;
    for (const [name, rows] of Object.entries(data.datasets)) view.data(name, rows);
    await view.runAsync();
  }
  root.live.columns = columns_of(data);
  resize(root);
  root.dataset.version = data.version;
  root.querySelector(".fault").textContent = "";
  if (data.focus && !root.found) find(root);
}

// An address may name a figure. What is above it may still grow, so it is scrolled to twice.
function find(root) {
  root.found = true;
  const scroll = () => root.scrollIntoView({ block: "center" });
  scroll();
  setTimeout(scroll, 900);
}

// A single chart takes the width there is; panels beside one another share it, whatever their axes and legend leave.
function resize(root) {
  const { view, columns } = root.live ?? {}, width = root.clientWidth;
  if (!view || !width) return;
  if (columns === 0 && Math.abs(view.width() - width) > 1) view.width(width).resize().runAsync();
  if (columns > 0) {
    const panel = view.signal("child_width"), drawn = root.querySelector(".canvas svg, .canvas canvas").clientWidth;
    const wanted = Math.max(160, Math.min(620, Math.floor(panel + (width - drawn) / columns)));
    if (Math.abs(wanted - panel) > 1) view.signal("child_width", wanted).resize().runAsync();
  }
}

export default function ({ data, parentElement, setTriggerValue }) {
  const root = parentElement.querySelector(".ucurve-chart");
  root.pick = (measurement) => setTriggerValue("picked", measurement);
  root.latest = data;
  // One update at a time; of several that arrive meanwhile only the last is drawn.
  root.queue = (root.queue ?? Promise.resolve()).then(() => (root.latest === data ? show(root, data) : null)).catch((error) => {
    root.querySelector(".fault").textContent = `This figure could not be drawn: ${error.message}`;
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
