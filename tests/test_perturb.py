"""The noise is standard normal, the same everywhere, and leaves no trace."""

import hashlib
import math

import numpy as np
import pytest
import torch
from scipy.stats import kstest, norm
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from ucurve.modeling.perturb import (
    Noise,
    current_std,
    group_of,
    init_std,
    normal_quantile,
    perturbed,
    philox,
    rms_by_group,
    select,
    standard_normal,
)


def small(**options: object) -> GPTNeoXForCausalLM:
    torch.manual_seed(0)
    sizes = {
        "vocab_size": 61,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
    }
    return GPTNeoXForCausalLM(GPTNeoXConfig(**sizes, **options)).eval()


def sha256(model: torch.nn.Module) -> str:
    return hashlib.sha256(
        b"".join(value.numpy().tobytes() for value in model.state_dict().values())
    ).hexdigest()


def test_philox_gives_the_published_answers() -> None:
    """Known-answer vectors of philox4x32-10 from the Random123 distribution."""
    pi = ([0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344], (0xA4093822, 0x299F31D0))
    for counter, key, answer in [
        ([0] * 4, (0, 0), [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        ([0xFFFFFFFF] * 4, (0xFFFFFFFF,) * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
        (*pi, [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1]),
    ]:
        assert [
            int(word) for word in philox([torch.tensor([word]) for word in counter], key)
        ] == answer


def test_the_normal_quantile_is_exact_to_the_last_digits() -> None:
    p = np.concatenate(
        [np.logspace(-9.9, -0.31, 5000), np.random.default_rng(0).uniform(1e-9, 1 - 1e-9, 5000)]
    )
    np.testing.assert_allclose(
        normal_quantile(torch.from_numpy(p)).numpy(), norm.ppf(p), rtol=5e-15
    )


def test_the_numbers_of_a_seed_and_a_name_never_change() -> None:
    """Golden numbers: if they move, every stored result needs a new version of the protocol."""
    found = standard_normal(0, "gpt_neox.embed_in.weight", 5)
    assert found.dtype == torch.float32
    # the same by another road: integers in Python, scipy's quantile
    digest = hashlib.sha256(b"gaussian/1/0/gpt_neox.embed_in.weight").digest()
    key = [int.from_bytes(digest[i : i + 4], "little") for i in (0, 4)]
    expected = [
        norm.ppf((word + 0.5) / 2**32)
        for block in range(2)
        for word in philox_in_python([block, 0, 0, 0], key)
    ]
    assert found.tolist() == pytest.approx(expected[:5], rel=1e-7)
    assert found.tolist() == GOLDEN


def philox_in_python(counter: list[int], key: list[int]) -> list[int]:
    c, k = list(counter), list(key)
    for _ in range(10):
        left, right = c[0] * 0xD2511F53, c[2] * 0xCD9E8D57
        c = [right >> 32 ^ c[1] ^ k[0], right % 2**32, left >> 32 ^ c[3] ^ k[1], left % 2**32]
        k = [(k[0] + 0x9E3779B9) % 2**32, (k[1] + 0xBB67AE85) % 2**32]
    return c


GOLDEN = [
    0.2791289687156677,
    -1.6915926933288574,
    0.8877506256103516,
    1.7640753984451294,
    1.625397801399231,
]


def test_the_noise_is_standard_normal_and_independent_between_names_seeds_and_neighbours() -> None:
    a, b, c = (
        standard_normal(seed, name, 400_001).double().numpy()
        for seed, name in [(0, "a"), (0, "b"), (1, "a")]
    )
    for x in (a, b, c):
        assert kstest(x, "norm").pvalue > 1e-3

    for x, y in [(a, b), (a, c), (b, c), (a[1:], a[:-1]), (a[4:], a[:-4])]:
        assert abs(np.mean(x * y)) < 4.5 / math.sqrt(len(x))


def test_a_tensors_noise_depends_on_nothing_but_seed_and_name() -> None:
    long = standard_normal(3, "w", 200_000)
    assert torch.equal(long[:70_001], standard_normal(3, "w", 70_001)), "a prefix is a prefix"
    model, noise = small(), Noise(3)
    everything, one = select(model), select(model, include=["*.0.attention.dense.weight"])
    [(name, tensor)] = one.items()
    assert torch.equal(noise.like(name, everything[name]), Noise(3).like(name, tensor)), (
        "whatever else is selected"
    )


def test_selection_leaves_buffers_out_takes_tied_tensors_once_and_follows_patterns() -> None:
    names = list(select(small()))
    assert all("rotary" not in name and "inv_freq" not in name for name in names)
    assert "lm_head.weight" in names
    tied = small(tie_word_embeddings=True)
    assert tied.lm_head.weight is tied.gpt_neox.embed_in.weight
    assert "lm_head.weight" not in select(tied)
    assert all(tensor.dim() >= 2 for tensor in select(small(), "matrices").values())
    assert set(select(small(), include=["*.mlp.*"], exclude=["*bias"])) == {
        name for name in names if "mlp" in name and "weight" in name
    }
    with pytest.raises(ValueError, match="no parameter is selected"):
        select(small(), include=["nothing"])


def test_groups_split_the_parameters_of_the_usual_architectures() -> None:
    expected = {
        "gpt_neox.layers.0.post_attention_layernorm.weight": "norm",
        "gpt_neox.final_layer_norm.bias": "norm",
        "gpt_neox.layers.0.attention.query_key_value.weight": "attention",
        "gpt_neox.layers.0.mlp.dense_h_to_4h.bias": "mlp",
        "gpt_neox.embed_in.weight": "embedding", "embed_out.weight": "unembedding",
        "lm_head.weight": "unembedding", "model.layers.0.self_attn.q_norm.weight": "norm",
        "model.layers.0.self_attn.q_proj.weight": "attention",
        "model.embed_tokens.weight": "embedding", "transformer.h.0.ln_1.weight": "norm",
        "transformer.wte.weight": "embedding",
    }  # fmt: skip
    assert {name: group_of(name) for name in expected} == expected
    tensors = select(small())
    parts = [
        select(small(), group=group)
        for group in ("embedding", "attention", "mlp", "norm", "unembedding")
    ]
    assert sorted(name for part in parts for name in part) == sorted(tensors)
    assert rms_by_group(tensors)["embedding"] == pytest.approx(
        float(tensors["gpt_neox.embed_in.weight"].square().mean().sqrt())
    )


def test_weights_have_their_old_bits_again_even_after_an_error() -> None:
    model = small()
    before = sha256(model)
    tensors = select(model)
    stds, size = (
        current_std(tensors),
        sum(float(tensor.square().sum()) for tensor in tensors.values()),
    )
    try:
        with perturbed(tensors, stds, 0.3, Noise(0)) as change:
            assert sha256(model) != before
            expected = math.sqrt(
                sum((0.3 * stds[name]) ** 2 * tensor.numel() for name, tensor in tensors.items())
                / size
            )
            assert change == pytest.approx(expected, rel=0.02)
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    assert sha256(model) == before


def test_one_draw_is_one_direction_that_gamma_only_scales() -> None:
    model, noise, moved = small(), Noise(5), {}
    tensors = select(model)
    name = "gpt_neox.layers.1.mlp.dense_h_to_4h.weight"
    before = tensors[name].double().clone()
    for gamma in (0.1, 0.2):
        with perturbed(tensors, current_std(tensors), gamma, noise):
            moved[gamma] = tensors[name].double() - before
    torch.testing.assert_close(moved[0.2], 2 * moved[0.1], rtol=1e-3, atol=1e-7)
    expected = (
        0.2
        * before.std(correction=0)
        * standard_normal(5, name, before.numel()).double().view_as(before)
    )
    torch.testing.assert_close(moved[0.2], expected, rtol=1e-3, atol=1e-7)


def test_init_std_gives_constant_tensors_no_noise() -> None:
    tensors = select(small(initializer_range=0.11))
    stated, measured = init_std(tensors, 0.11), current_std(tensors)
    for name, std in measured.items():
        size = tensors[name].numel()
        assert std == pytest.approx(stated[name], abs=5 * stated[name] / math.sqrt(2 * size)), name
    with perturbed(tensors, measured, 0.5, Noise(0)):
        assert torch.equal(tensors["gpt_neox.final_layer_norm.weight"], torch.ones(32))
    assert current_std({"constant": torch.full((1001,), 0.1)}) == {"constant": 0.0}, (
        "0.1 has no exact mean"
    )


def test_noise_on_a_linear_layer_raises_its_loss_as_theory_says() -> None:
    """E|(W + s E) x - y|^2 = |W x - y|^2 + s^2 p |x|^2 for W with p rows and standard normal E."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(12, 20, generator=generator)
    x, y = torch.randn(20, generator=generator), torch.randn(12, generator=generator)
    tensors, base = {"weight": weight}, float((weight @ x - y).square().sum())
    std = current_std(tensors)["weight"]
    losses = []
    for seed in range(600):
        with perturbed(tensors, {"weight": std}, 0.3, Noise(seed)):
            losses.append(float((weight @ x - y).square().sum()))
    expected = base + (0.3 * std) ** 2 * 12 * float(x.square().sum())
    z = (np.mean(losses) - expected) / (np.std(losses, ddof=1) / math.sqrt(len(losses)))
    assert abs(z) < 3.5, f"{np.mean(losses):.4f} against {expected:.4f}, z = {z:.1f}"
