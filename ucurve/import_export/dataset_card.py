"""An export as a data set of the Hugging Face Hub: flat Parquet tables, and a card about them.

    README.md                       the card: configurations, features, licence, size
    data/measurements.parquet       a row per measurement: a column per label and metric
    data/verdicts.parquet           a row per verdict

The tables of the export itself have maps and JSON, which `datasets` does not read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ucurve.import_export.parquet import FolderError, Manifest, ProgressCallback
from ucurve.schemas.experiments import Experiment
from ucurve.schemas.measurements import MeasurementRow, decode_metrics

if TYPE_CHECKING:
    import pyarrow as pa

    from ucurve.client import Client

LICENCE = re.compile(r"[a-z0-9][a-z0-9.-]{0,40}")
TABLES = ("measurements", "verdicts")
SIZES = ((1000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (10**6, "100K<n<1M"))
FIXED = {  # of every measurement
    "experiment": "int64",
    "experiment_name": "string",
    "type": "string",
    "identity": "string",
    "state": "string",
}
VERDICT = {
    "experiment": "int64",
    "experiment_name": "string",
    "claim": "string",
    "scope": "string",
    "answer": "string",
    "sentence": "string",
    "effect": "float64",
    "effect_name": "string",
    "low": "float64",
    "high": "float64",
    "p_value": "float64",
    "num_draws": "int64",
}


def write_dataset(
    client: Client,
    folder: Path,
    ids: Sequence[int],
    manifest: Manifest,
    licence: str,
    progress: ProgressCallback,
) -> None:
    """Write tables and card to an export's folder. Raises FolderError for a wrong licence."""
    if not LICENCE.fullmatch(licence):
        raise FolderError(
            f"{licence!r} is no identifier of a licence: use one such as cc-by-4.0, apache-2.0, "
            "other or unknown"
        )
    (folder / "data").mkdir()
    measurements: list[dict[str, Any]] = []
    verdicts: list[dict[str, Any]] = []
    suites: dict[str, None] = {}
    for number, id in enumerate(ids, 1):
        experiment = client.experiment(id)
        measurements += _rows(experiment, client.rows(id, series="none"))
        verdicts += [_verdict(experiment, verdict) for verdict in client.verdicts(id)]
        suites |= dict.fromkeys(filter(None, [experiment.spec.get("suite")]))
        progress("data set", number, len(ids))
    features = {"measurements": _features(measurements), "verdicts": VERDICT}
    tables = {"measurements": measurements, "verdicts": verdicts}
    sizes = {}
    for name in TABLES:
        path = folder / "data" / f"{name}.parquet"
        _write(path, features[name], tables[name])
        sizes[name] = (len(tables[name]), path.stat().st_size)
    card = _card(manifest, licence, features, sizes, list(suites))
    (folder / "README.md").write_text(card, encoding="utf-8")


def _rows(experiment: Experiment, rows: Iterable[MeasurementRow]) -> Iterator[dict[str, Any]]:
    for row in rows:
        metrics = decode_metrics(row.metrics, row.nonfinite)
        yield {
            **{name: _scalar(value) for name, value in row.labels.items()},
            **metrics,
            "experiment": experiment.id,
            "experiment_name": experiment.name,
            "type": experiment.kind,
            "identity": row.identity,
            "state": row.state,
        }


def _scalar(value: Any) -> Any:
    """Return a value for a column; lists become JSON, integers beyond 64 bits floats."""
    if type(value) is int and abs(value) >= 2**63:
        return float(value)
    return value if isinstance(value, str | int | float | None) else json.dumps(value)


def _verdict(experiment: Experiment, verdict: Any) -> dict[str, Any]:
    low, high = verdict.interval or (None, None)
    fields = {name: getattr(verdict, name, None) for name in VERDICT}
    here = {"experiment": experiment.id, "experiment_name": experiment.name}
    return {**fields, **here, "low": low, "high": high}


def _features(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return the type of every column: of its values, text where they are mixed."""
    types: dict[str, set[type]] = {}
    for row in rows:
        for name, value in row.items():
            types.setdefault(name, set()).update([] if value is None else [type(value)])
    return FIXED | {name: _dtype(kinds) for name, kinds in types.items() if name not in FIXED}


def _dtype(kinds: set[type]) -> str:
    if kinds and kinds <= {int}:
        return "int64"
    if kinds and kinds <= {int, float}:
        return "float64"
    return "bool" if kinds == {bool} else "string"


def _write(path: Path, features: Mapping[str, str], rows: Sequence[Mapping[str, Any]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = {"int64": pa.int64(), "float64": pa.float64(), "bool": pa.bool_()}
    schema = pa.schema([(name, types.get(dtype, pa.string())) for name, dtype in features.items()])
    columns = [_column(rows, field) for field in schema]
    pq.write_table(pa.Table.from_arrays(columns, schema=schema), path, compression="zstd")


def _column(rows: Sequence[Mapping[str, Any]], field: pa.Field) -> pa.Array:
    import pyarrow as pa

    values = [row.get(field.name) for row in rows]
    if pa.types.is_string(field.type):
        values = [value if isinstance(value, str | None) else json.dumps(value) for value in values]
    elif pa.types.is_floating(field.type):
        values = [None if value is None else float(value) for value in values]
    return pa.array(values, field.type)


def _card(
    manifest: Manifest,
    licence: str,
    features: Mapping[str, Mapping[str, str]],
    sizes: Mapping[str, tuple[int, int]],
    suites: Sequence[str],
) -> str:
    """Return the card. Its YAML is JSON in lines, so that no name needs other quotes."""
    configs = [
        {"config_name": name, "data_files": [{"split": "train", "path": f"data/{name}.parquet"}]}
        | ({"default": True} if name == TABLES[0] else {})
        for name in TABLES
    ]
    info = [
        {
            "config_name": name,
            "features": [
                {"name": column, "dtype": dtype} for column, dtype in features[name].items()
            ],
            "splits": [{"name": "train", "num_examples": sizes[name][0]}],
        }
        for name in TABLES
    ]
    size = next((text for most, text in SIZES if sizes[TABLES[0]][0] < most), "n>1M")
    title = f"Measurements of {manifest.origin}"
    front = {
        "license": licence,
        "pretty_name": title,
        "size_categories": [size],
        "tags": ["ucurve", "pre-training", "fragility", "perplexity"],
        "configs": configs,
        "dataset_info": info,
    }
    yaml = "\n".join(f"{key}: {json.dumps(value)}" for key, value in front.items())
    return f"---\n{yaml}\n---\n\n{_text(title, manifest, sizes, suites)}"


def _text(
    title: str,
    manifest: Manifest,
    sizes: Mapping[str, tuple[int, int]],
    suites: Sequence[str],
) -> str:
    about = f" Suites: {', '.join(suites)}." if suites else ""
    return f"""# {title}

Does pre-training a language model longer make it more fragile? {sizes["measurements"][0]:,}
measurements and {sizes["verdicts"][0]:,} verdicts, exported by ucurve {manifest.version} on
{manifest.made_at:%Y-%m-%d}.{about}

```python
from datasets import load_dataset

measurements = load_dataset("this/repository", split="train")
verdicts = load_dataset("this/repository", "verdicts", split="train")
```

- **measurements**: one row per evaluation. `nll_mean` is the mean loss in nats per token; it is
  inf or NaN where the model broke. `identity` is the SHA-256 of everything that determines the
  number. `tokens` are pre-training tokens; `gamma` 0 is the unperturbed model.
- **verdicts**: one row per claim and setting, with its effect and 95% interval.

The files next to this card are the complete export with every attempt: `ucurve import` reads the
folder, and `manifest.json` has the hash of every file.
"""
