// The offline site: charts from data in the page, search of the index. Nothing is fetched.
const INK = "#1d2733", QUIET = "#5d6873";
const LABELS = { labelColor: QUIET, titleColor: INK, labelFontSize: 12, titleFontSize: 12.5, titleFontWeight: 500 };
const STYLE = {
  background: null, font: "sans-serif", axis: { ...LABELS, gridColor: QUIET, domainColor: QUIET, tickColor: QUIET, titlePadding: 10 },
  legend: LABELS, header: LABELS, view: { stroke: null }, text: { color: INK }, rule: { color: QUIET },
};
const composed = (chart) => ["hconcat", "vconcat", "concat", "facet", "repeat"].some((key) => key in chart);

for (const container of document.querySelectorAll(".live")) {
  const chart = JSON.parse(container.nextElementSibling.textContent);
  if (chart.columns && container.clientWidth < 700) chart.columns = 1;
  const sized = composed(chart) ? {} : { width: container.clientWidth, autosize: { type: "fit-x", contains: "padding" } };
  const num_rows = Object.values(chart.datasets).reduce((sum, rows) => sum + rows.length, 0);
  vegaEmbed(container, { ...chart, ...sized }, {
    mode: "vega-lite", logLevel: 1, renderer: num_rows > 6000 ? "canvas" : "svg", config: STYLE,
    actions: { export: true, source: false, compiled: false, editor: false },
  }).catch((error) => { container.textContent = `The chart cannot be drawn: ${error.message}`; });
}

const input = document.querySelector("#search");
if (input) {
  const rows = [...document.querySelectorAll("#experiments tbody tr")];
  const search = () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    let visible = 0;
    for (const row of rows) {
      row.hidden = !words.every((word) => row.dataset.text.includes(word));
      visible += !row.hidden;
    }
    document.querySelector("#num-matches").textContent = visible === rows.length ? "" : `${visible} of ${rows.length}`;
    history.replaceState(null, "", input.value ? `#${encodeURIComponent(input.value)}` : location.pathname);
  };
  input.value = decodeURIComponent(location.hash.slice(1));
  input.addEventListener("input", search);
  if (input.value) search();
}
