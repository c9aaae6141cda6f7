// The pages of an export: charts out of the data inside the page, and the search of the index. Nothing is fetched.
const INK = "#1d2733", QUIET = "#5d6873";
const LABELS = { labelColor: QUIET, titleColor: INK, labelFontSize: 12, titleFontSize: 12.5, titleFontWeight: 500 };
const STYLE = {
  background: null, font: "sans-serif", axis: { ...LABELS, gridColor: QUIET, domainColor: QUIET, tickColor: QUIET, titlePadding: 10 },
  legend: LABELS, header: LABELS, view: { stroke: null }, text: { color: INK }, rule: { color: QUIET },
};
const composed = (chart) => ["hconcat", "vconcat", "concat", "facet", "repeat"].some((key) => key in chart);

for (const place of document.querySelectorAll(".live")) {
  const chart = JSON.parse(place.nextElementSibling.textContent);
  const sized = composed(chart) ? {} : { width: place.clientWidth, autosize: { type: "fit-x", contains: "padding" } };
  const num_rows = Object.values(chart.datasets).reduce((sum, rows) => sum + rows.length, 0);
  vegaEmbed(place, { ...chart, ...sized }, {
    mode: "vega-lite", logLevel: 1, renderer: num_rows > 6000 ? "canvas" : "svg", config: STYLE,
    actions: { export: true, source: false, compiled: false, editor: false },
  }).catch((error) => { place.textContent = `The chart cannot be drawn: ${error.message}`; });
}

const asked = document.querySelector("#search");
if (asked) {
  const rows = [...document.querySelectorAll("#experiments tbody tr")];
  const search = () => {
    const words = asked.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of rows) {
      row.hidden = !words.every((word) => row.dataset.text.includes(word));
      shown += !row.hidden;
    }
    document.querySelector("#found").textContent = shown === rows.length ? "" : `${shown} of ${rows.length}`;
    history.replaceState(null, "", asked.value ? `#${encodeURIComponent(asked.value)}` : location.pathname);
  };
  asked.value = decodeURIComponent(location.hash.slice(1));
  asked.addEventListener("input", search);
  if (asked.value) search();
}
