#!/bin/sh
# transformers 5.24.0: a model saved as one file, and later into the same folder as shards with an
# index, loads as the first save. `from_pretrained` prefers model.safetensors to
# model.safetensors.index.json, and `save_pretrained` in shards leaves the older file where it is.
# Nothing warns: further training that started to shard its checkpoints is loaded without it.
#
# Seen on 2026-11-29 (0.0 is the first save, 1.0 the second):
#     files ['config.json', 'generation_config.json', 'model-00001-of-00006.safetensors', ...]
#     loaded 0.0
# Exits with status 1 when the newer weights are loaded, the older file is removed, or an error says
# that there are two.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check \
  torch==2.13.0 transformers==5.24.0 safetensors==0.8.0
cat >"$work/save_twice.py" <<'PY'
import os
import sys

import torch
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

folder = sys.argv[1]
config = GPTNeoXConfig(
    vocab_size=64, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64
)
model = GPTNeoXForCausalLM(config)
for value, size in ((0.0, "1GB"), (1.0, "20KB")):
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(value)
    model.save_pretrained(folder, max_shard_size=size)
print("files", sorted(os.listdir(folder)))
loaded = GPTNeoXForCausalLM.from_pretrained(folder)
value = next(loaded.parameters()).flatten()[0].item()
print("loaded", value)
sharded = "model.safetensors.index.json" in os.listdir(folder)
sys.exit(not (sharded and value == 0.0))
PY
cd "$work"
HF_HUB_OFFLINE=1 "$work/venv/bin/python" save_twice.py "$work/model"
