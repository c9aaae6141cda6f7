"""Recompute one number of each protocol from the built-in suite's files, by docs/protocols/ alone.

    python recompute.py SUITE IDS    # needs torch, numpy and safetensors, and nothing of ucurve

SUITE is the folder of the suite `tiny`; IDS has the six files that docs/protocols/index.md writes.
"""

import hashlib
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from safetensors.torch import load_file
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import cross_entropy, gelu, layer_norm, linear
from torch.nn.functional import scaled_dot_product_attention as attention

BODY, WORD32, GOOD = "gpt_neox.", np.uint64(0xFFFFFFFF), 285
FILES = ("held-out", "tuning", "validation", "labelled", "labelled-validation", "training")


def hidden(t, config, ids):  # t: tensors by their names in the file
    num_heads, rope = config["num_attention_heads"], config["rope_parameters"]
    size = config["hidden_size"] // num_heads
    num = int(size * rope["partial_rotary_factor"])
    frequencies = rope["rope_theta"] ** -(torch.arange(0, num, 2) / num)
    angles = torch.outer(torch.arange(ids.shape[1]), frequencies).repeat(1, 2)

    def norm(x, name):
        return layer_norm(x, x.shape[-1:], t[name + ".weight"], t[name + ".bias"], 1e-5)

    def affine(x, name):
        return linear(x, t[name + ".weight"], t[name + ".bias"])

    def rotated(x):
        a, b = x[..., :num].chunk(2, -1)
        turned = x[..., :num] * angles.cos() + torch.cat([-b, a], -1) * angles.sin()
        return torch.cat([turned, x[..., num:]], -1)

    x = t[BODY + "embed_in.weight"][ids]
    for i in range(config["num_hidden_layers"]):
        p = f"{BODY}layers.{i}."
        qkv = affine(norm(x, p + "input_layernorm"), p + "attention.query_key_value")
        q, k, v = qkv.view(*ids.shape, num_heads, 3 * size).transpose(1, 2).chunk(3, -1)
        mixed = attention(rotated(q), rotated(k), v, is_causal=True).transpose(1, 2).flatten(2)
        inner = gelu(affine(norm(x, p + "post_attention_layernorm"), p + "mlp.dense_h_to_4h"))
        x = x + affine(mixed, p + "attention.dense") + affine(inner, p + "mlp.dense_4h_to_h")
    return norm(x, BODY + "final_layer_norm")


def logits(t, config, ids):
    head = t["embed_out.weight" if "embed_out.weight" in t else "lm_head.weight"]
    return linear(hidden(t, config, ids), head)


def loss_of(t, config, rows, first=1):  # mean over the tokens of every row from `first` on
    scores = logits(t, config, rows)[:, first - 1 : -1]
    return cross_entropy(scores.flatten(0, 1), rows[:, first:].flatten())


def class_loss(t, config, rows):  # linear_head/1: the last token is the label, and is not read
    scores = linear(hidden(t, config, rows[:, :-1])[:, -1], t["head.weight"])
    return cross_entropy(scores, (rows[:, -1] == GOOD).long())


@torch.no_grad()
def mean_loss(loss, t, config, rows, *first):  # rows are windows, all equally long here
    parts = rows.split(32)
    return float(np.mean([loss(t, config, part, *first).item() for part in parts]))


def standard_normal(seed, name, shape):  # Philox 4x32-10
    num = int(np.prod(shape))
    key = np.frombuffer(hashlib.sha256(f"gaussian/1/{seed}/{name}".encode()).digest()[:8], "<u4")
    k0, k1 = (np.uint64(k) for k in key)
    c0 = np.arange(-(-num // 4), dtype=np.uint64)
    c1 = c2 = c3 = np.zeros_like(c0)
    for _ in range(10):
        a, b = c0 * np.uint64(0xD2511F53), c2 * np.uint64(0xCD9E8D57)
        c0, c1 = (b >> np.uint64(32)) ^ c1 ^ k0, b & WORD32
        c2, c3 = (a >> np.uint64(32)) ^ c3 ^ k1, a & WORD32
        k0, k1 = (k0 + np.uint64(0x9E3779B9)) & WORD32, (k1 + np.uint64(0xBB67AE85)) & WORD32
    words = np.stack([c0, c1, c2, c3], 1).ravel()[:num]
    return torch.special.ndtri(torch.tensor((words + 0.5) * 2.0**-32)).float().view(shape)


def perturbed(t, gamma, seed, scale_of):  # scale_of: the checkpoint itself, or that of step 0
    std = {name: scale_of[name].double().std(correction=0).item() for name in t}
    return {n: t[n] + standard_normal(seed, n, t[n].shape) * (gamma * std[n]) for n in t}


def displaced(t, gamma, seed):  # matched_displacement/1: one sigma, from the length of all matrices
    w = {name: t[name] for name in t if t[name].dim() > 1}
    eps = {name: standard_normal(seed, name, w[name].shape) for name in w}
    size, length = (sum(m.double().square().sum().item() for m in s.values()) for s in (w, eps))
    return {**t, **{name: w[name] + eps[name] * (gamma * (size / length) ** 0.5) for name in w}}


def with_matrices(t, change):  # biases and gains of norms stay
    return {n: change(w).view(w.shape) if w.dim() > 1 else w for n, w in t.items()}


def rounded(w, bits):  # quantisation/1 per row, symmetric
    w = w.double()
    step = w.abs().amax(-1, keepdim=True) / (2 ** (bits - 1) - 1)
    return torch.where(step > 0, (w / step).round() * step, w).float()


def decoded(w, bits, size=None):  # library_format/1, all in fp32; size None: a scale per row
    blocks, least = w.reshape(-1, size or w.shape[-1]), 2.0**-126 if size else 2.0**-23
    scale = (blocks.abs().amax(1, keepdim=True) / ((2**bits - 1) / 2)).clamp(min=least)
    codes = (blocks * (1.0 / scale)).round()
    return codes.clamp(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) * scale


def pruned(w, sparsity):  # pruning/1 per tensor
    order = w.abs().flatten().argsort(stable=True)  # of equal magnitudes the first
    return w.flatten().index_fill(0, order[: round(sparsity * len(order))], 0.0)


def train(t, loss, batches, rate, warmup, decay=0.0, beta2=0.999, cosine=False, sharp=None):
    t, losses = {name: tensor.clone().requires_grad_() for name, tensor in t.items()}, []
    matrices, others = ([p for p in t.values() if (p.dim() == 2) == two] for two in (True, False))
    groups = [{"params": matrices, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, betas=(0.9, beta2), eps=1e-8)
    for step, rows in enumerate(batches):
        optimiser.zero_grad()
        value = loss(t, rows)
        value.backward()
        if sharp is not None and step >= sharp:  # intervention/1: sharpness_aware, rho 0.05
            step_up = 0.05 / (torch.stack([w.grad.norm() for w in t.values()]).norm() + 1e-12)
            uphill = {n: (w + step_up * w.grad).detach().requires_grad_() for n, w in t.items()}
            slopes = torch.autograd.grad(loss(uphill, rows), list(uphill.values()))
            for w, slope in zip(t.values(), slopes, strict=True):
                w.grad = slope
        torch.nn.utils.clip_grad_norm_(list(t.values()), 1.0)
        done = (step - warmup) / (len(batches) - warmup)
        factor = (1 + np.cos(np.pi * done)) / 2 if cosine else 1 - done
        for group in optimiser.param_groups:
            group["lr"] = rate * ((step + 1) / warmup if step < warmup else factor)
        optimiser.step()
        losses.append(value.item())
    return {name: tensor.detach() for name, tensor in t.items()}, losses


def hessian(t, loss):  # v -> H v; the plain attention is the only one with a second derivative
    def product(v):
        weights = [tensor.clone().requires_grad_() for tensor in t.values()]
        parts = v.split([tensor.numel() for tensor in weights])
        with sdpa_kernel(SDPBackend.MATH):
            value = loss(dict(zip(t, weights, strict=True)))
            slopes = torch.autograd.grad(value, weights, create_graph=True)
            along = sum((a.flatten() * b).sum() for a, b in zip(slopes, parts, strict=True))
            return torch.cat([part.flatten() for part in torch.autograd.grad(along, weights)])

    return product


def inner(a, b):
    return (a.double() @ b.double()).item()


def top_eigenvalue(product, v, tolerance=1e-3):  # Lanczos, orthogonal to all vectors before
    basis, matrix = [v / inner(v, v) ** 0.5], np.zeros((100, 100))
    for k in range(100):
        w = product(basis[k])
        matrix[k, k] = inner(basis[k], w)
        for q in basis * 2:
            w = w - inner(q, w) * q
        values, vectors = np.linalg.eigh(matrix[: k + 1, : k + 1])
        length = inner(w, w) ** 0.5
        if length * abs(vectors[-1, -1]) <= tolerance * abs(values[-1]):
            break
        matrix[k, k + 1] = matrix[k + 1, k] = length
        basis.append(w / length)
    return values[-1]


def last_bin(losses, bins=80):  # of the stored training loss: bins on a log axis of updates
    edges = sorted({0, *(round(len(losses) ** (k / (bins - 1))) for k in range(bins))})
    return float(np.mean(losses[edges[-2] :]))


def linear_model(learned=10, width=32, seed=0, step=0.2):
    def target(*key):
        generator = np.random.default_rng([seed, *key])
        pairs = [np.linalg.qr(generator.standard_normal((width, width))) for _ in range(2)]
        U, V = (Q * np.sign(np.diag(R)) for Q, R in pairs)
        return U, V, (U * strengths) @ V.T

    def slope(W1, W2):
        return (A - W1 @ W2) @ W2.T, W1.T @ (A - W1 @ W2)

    def loss(W1, W2):
        return np.square(W1 @ W2 - A).sum() / 2

    strengths = np.geomspace(1.0, 0.05, width)
    U, V, A = target(0)
    W = 1e-12 * np.random.default_rng([seed, 2]).standard_normal((2, width, width))
    progress = np.zeros(width)
    while progress[learned - 1 : learned + 1].sum() < 1.0:  # Runge-Kutta of fourth order
        k1 = np.stack(slope(*W))
        k2 = np.stack(slope(*(W + step / 2 * k1)))
        k3 = np.stack(slope(*(W + step / 2 * k2)))
        k4 = np.stack(slope(*(W + step * k3)))
        W = W + step / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        progress = np.einsum("ir,ij,jr->r", U, W[0] @ W[1], V) / strengths
    root = np.sqrt(np.where(np.arange(width) < learned, strengths, 0.0))
    exact, forgotten = np.stack([U * root, (V * root).T]), []
    generators = [np.random.default_rng([seed, 3, j]) for j in range(40)]
    noises = [generator.standard_normal((2, width, width)) for generator in generators]
    for j in range(8):
        tuned, B = W, target(1, j)[2]
        for _ in range(40):
            gap = tuned[0] @ tuned[1] - B
            tuned = tuned - 0.05 * np.stack([gap @ tuned[1].T, tuned[0].T @ gap])
        forgotten.append(loss(*tuned))
    noisy = {
        name: np.mean([loss(*(state + 0.08 * noise)) for noise in noises])
        for name, state in (("linear_flow/1", W), ("linear_ideal/1", exact))
    }
    return {**noisy, "linear_fine_tuning/1": np.mean(forgotten)}


def weights(folder):
    return load_file(folder / "model.safetensors")


def published(t):  # as files name the unembedding that transformers calls lm_head
    return {name.replace("lm_head", "embed_out"): tensor for name, tensor in t.items()}


def read(suite, ids):  # models of pre-training seed 0, and of seed 1 the last; the six files
    first, last = "seed0-step0-tokens0", "seed0-step7000-tokens14336000"
    texts = {f.replace("-", "_"): np.loadtxt(ids / f"{f}.ids", dtype=np.int64) for f in FILES}
    return SimpleNamespace(
        config=json.loads((suite / first / "config.json").read_text()),
        initial=weights(suite / first),
        last=weights(suite / last),
        other=weights(suite / last.replace("seed0", "seed1")),
        **{name: torch.from_numpy(rows) for name, rows in texts.items()},
    )


def changes(s):
    def evaluated(t):
        return mean_loss(loss_of, t, s.config, s.held_out)

    stored, at_start = published(s.last), published(s.initial)
    average = {n: 0.5 * s.last[n].double() + 0.5 * s.other[n].double() for n in s.last}
    return {
        "perplexity/1": evaluated(s.last),
        "gaussian/1 current_std": evaluated(perturbed(s.last, 0.1, 3, s.last)),
        "gaussian/1 init_std": evaluated(perturbed(s.last, 0.2, 0, s.initial)),
        "gaussian/2 init_std": evaluated(perturbed(stored, 0.2, 0, at_start)),
        "matched_displacement/1": evaluated(displaced(s.last, 0.2, 1)),
        "interpolation/1": evaluated({name: w.float() for name, w in average.items()}),
        "quantisation/1": evaluated(with_matrices(s.last, lambda w: rounded(w, 3))),
        "library_format/1 int8": evaluated(with_matrices(s.last, lambda w: decoded(w, 8))),
        "library_format/1 int4": evaluated(with_matrices(s.last, lambda w: decoded(w, 4, 32))),
        "pruning/1": evaluated(with_matrices(s.last, lambda w: pruned(w, 0.5))),
    }


def curvatures(s):
    stored, first = published(s.last), s.held_out[:64]
    sign = {n: standard_normal(0, n, w.shape).sign() for n, w in stored.items()}  # a direction
    v = torch.cat([part.flatten() for part in sign.values()])
    product = hessian(stored, lambda t: loss_of(t, s.config, first))
    forms = (v * product(v)).double().split([w.numel() for w in stored.values()])
    at_start = published(s.initial)
    stds = [at_start[n].double().std(correction=0).item() for n in stored]
    ends = [{n: w + sigma * sign[n] for n, w in stored.items()} for sigma in (0.03, -0.03, 0.0)]
    above, below, middle = (mean_loss(loss_of, end, s.config, first) for end in ends)
    return {
        "hessian_trace/1": inner(v, product(v)),
        "hessian_trace/2": sum(a**2 * f.sum().item() for a, f in zip(stds, forms, strict=True)),
        "hessian_top_eigenvalue/1": top_eigenvalue(product, v),
        "antithetic_rise/1": (above + below) / 2 - middle,
    }


def fine_tunings(s):
    def tuned(t, loss, rows, *first, rate=1e-3):
        batches = rows.split(16)
        warmup = round(0.06 * len(batches))
        return train(t, lambda t, part: loss(t, s.config, part, *first), batches, rate, warmup)

    def evaluated(t, rows, loss=loss_of, *first):
        return mean_loss(loss, t, s.config, rows, *first)

    after, losses = tuned(s.last, loss_of, s.tuning)
    fast, _ = tuned(s.last, loss_of, s.tuning, rate=1e-2)
    half = {name: torch.lerp(s.last[name], after[name], 0.5) for name in s.last}
    words, _ = tuned(s.last, loss_of, s.labelled, 63)
    head = s.config["initializer_range"] * standard_normal(0, "head.weight", (2, 32))
    classes, _ = tuned({**s.last, "head.weight": head}, class_loss, s.labelled)
    return {
        "fine_tune/1": evaluated(after, s.held_out),
        "fine_tune/1 training_loss": last_bin(losses),
        "fine_tune/1 rate 0.01": evaluated(fast, s.held_out),
        "language_modelling/1": evaluated(after, s.validation),
        "wise_ft/1": evaluated(half, s.held_out),
        "label_words/1": evaluated(words, s.labelled_validation, loss_of, 63),
        "linear_head/1": evaluated(classes, s.labelled_validation, class_loss),
    }


def pretrainings(s):
    def trained(sharp=None):
        batches, recipe = s.training.split(32), {"decay": 0.15, "beta2": 0.95, "cosine": True}
        t, _ = train(s.initial, every_token, batches, 5e-3, 5, **recipe, sharp=sharp)
        return mean_loss(loss_of, t, s.config, s.held_out)

    def every_token(t, rows):
        return loss_of(t, s.config, rows)

    return {"pretrain/1": trained(), "intervention/1": trained(sharp=15)}


def main(suite, ids):
    files = read(suite, ids)
    parts = (part(files) for part in (changes, curvatures, fine_tunings, pretrainings))
    numbers = {name: number for part in (*parts, linear_model()) for name, number in part.items()}
    print(json.dumps(numbers, indent=1))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(*map(Path, sys.argv[1:]))
