#!/bin/sh
# vega 6.4.0 and vega-lite 6.5.0: panels with a gradient legend each (`resolve: {legend: {color:
# "independent"}}` inside a facet, log colour scale) that begin without a value do not recover when
# their values arrive through `view.data`: of two panels one stays empty. No promise is rejected; the
# console has "TypeError: I[i] is not a function" from scaleGradient, whose scale has no domain yet,
# and later updates do not help. With a symbol legend, or with the values there from the start, all
# marks are drawn. (A dashboard that follows a running job begins without values.)
#
# Seen on 2026-11-30 (marks drawn before and after the values arrive, 18 are there):
#     symbol legend, empty at first 0 18
#     gradient legend, full at first 18 18
#     gradient legend, empty at first 0 9
# Exits with status 1 when the last one draws all marks, or another one does not.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
npm install --silent --no-fund --no-audit vega@6.4.0 vega-lite@6.5.0
cat >draw.mjs <<'JS'
import * as vega from "vega";
import { compile } from "vega-lite";

const places = [0, 1].flatMap((panel) => [0, 1, 2].flatMap((x) => [1, 10, 100].map((size) => ({ panel, x, size }))));
const rows = places.map((place) => ({ ...place, what: "mean", y: place.x * place.size }));
const waiting = places.map((place) => ({ ...place, what: "waiting" }));

function layer(mark, legend) {
  const color = { field: "size", type: "quantitative", scale: { type: "log" }, legend };
  const at = { x: { field: "x", type: "quantitative" }, y: { field: "y", type: "quantitative" } };
  return { transform: [{ filter: "datum.what == 'mean'" }], mark, encoding: { ...at, color } };
}

async function drawn(type, first) {
  const chart = {
    data: { name: "curves", values: first },
    facet: { row: { field: "panel", type: "nominal" } },
    spec: {
      layer: [layer("line", null), layer("point", { type })],
      resolve: { legend: { color: "independent" } },
    },
  };
  const quiet = vega.logger(vega.None);
  const view = new vega.View(vega.parse(compile(chart, { logger: quiet }).spec), { renderer: "none", logger: quiet });
  const counts = [];
  for (const values of [first, rows]) {
    await view.data("curves", values).runAsync();
    counts.push(marks(view.scenegraph().root));
  }
  return counts;
}

function marks(item) {
  const own = item.marktype === "symbol" && item.role === "mark" ? item.items.length : 0;
  return (item.items ?? []).reduce((sum, inner) => sum + marks(inner), own);
}

const expected = { "symbol legend, empty at first": [0, 18], "gradient legend, full at first": [18, 18], "gradient legend, empty at first": [0, 9] };
let changed = false;
for (const [name, counts] of Object.entries(expected)) {
  const [before, after] = await drawn(name.split(" ")[0], name.endsWith("empty at first") ? waiting : rows);
  console.log(name, before, after);
  changed ||= before !== counts[0] || after !== counts[1];
}
process.exit(changed ? 1 : 0);
JS
node draw.mjs
