"""The loss of a stream of tokens is what a straightforward loop says it is."""

import math

import numpy as np
import pytest
import torch
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from ucurve.modeling.perplexity import Window, window_losses, windows


@pytest.fixture(scope="module")
def model() -> GPTNeoXForCausalLM:
    torch.manual_seed(0)
    config = GPTNeoXConfig(
        vocab_size=61, hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64, initializer_range=0.3,
    )  # fmt: skip
    return GPTNeoXForCausalLM(config).eval()


@pytest.fixture(scope="module")
def tokens() -> torch.Tensor:
    return torch.randint(61, (203,), generator=torch.Generator().manual_seed(1))


def straightforward(
    model: GPTNeoXForCausalLM, tokens: torch.Tensor, window: int, stride: int
) -> tuple[float, int]:
    """Compute the loss of one token at a time in its window, in float64 from the full logits."""
    total, count, read = 0.0, 0, 0
    with torch.no_grad():
        for start in range(0, len(tokens), stride):
            seen = tokens[start : start + window]
            log_p = model(seen[None]).logits[0].double().log_softmax(-1)
            for i in range(1, len(seen)):
                if start + i >= read:
                    total -= float(log_p[i - 1, seen[i]])
                    count += 1
            read = start + len(seen)
            if read == len(tokens):
                break
    return total, count


@pytest.mark.parametrize(("window", "stride"), [(64, 64), (64, 20), (50, 50), (7, 3), (101, 101)])
def test_losses_equal_a_straightforward_loop(
    model: GPTNeoXForCausalLM,
    tokens: torch.Tensor,
    window: int,
    stride: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model.config.max_position_embeddings = max(64, window)
    monkeypatch.setattr(
        "ucurve.modeling.perplexity.LOGITS", 61 * 30
    )  # several slices of logits per batch
    found = window_losses(model, tokens, window=window, stride=stride, batch_tokens=150)
    total, count = straightforward(model, tokens, window, stride)
    assert int(found.num_tokens.sum()) == count
    assert found.nll_sum.sum() == pytest.approx(total, rel=1e-6)
    assert found.nll_mean == pytest.approx(total / count, rel=1e-6)


def test_every_token_is_scored_once_but_the_first_of_windows_that_do_not_overlap() -> None:
    assert list(windows(10, 4, 4)) == [Window(0, 1, 4), Window(4, 5, 8), Window(8, 9, 10)], (
        "the last one is short"
    )
    assert list(windows(9, 4, 4)) == [Window(0, 1, 4), Window(4, 5, 8)], (
        "a lone last token has nothing before it"
    )
    assert list(windows(10, 4, 2)) == [
        Window(0, 1, 4),
        Window(2, 4, 6),
        Window(4, 6, 8),
        Window(6, 8, 10),
    ]
    for num, window, stride in [(100, 10, 3), (57, 8, 1), (31, 30, 29)]:
        scored = [i for one in windows(num, window, stride) for i in range(one.score, one.end)]
        assert scored == list(range(1, num))


def test_logits_that_are_more_than_the_unembedding_are_honoured(
    model: GPTNeoXForCausalLM, tokens: torch.Tensor
) -> None:
    class Scaled(GPTNeoXForCausalLM):
        def forward(self, *args: object, **kwargs: object) -> object:
            output = super().forward(*args, **kwargs)
            output.logits = output.logits * 0.5
            return output

    scaled = Scaled(model.config).eval()
    scaled.load_state_dict(model.state_dict())
    total, count = straightforward(scaled, tokens, 64, 64)
    assert window_losses(scaled, tokens, window=64, stride=64).nll_mean == pytest.approx(
        total / count, rel=1e-6
    )
    assert window_losses(model, tokens, window=64, stride=64).nll_mean != pytest.approx(
        total / count, rel=1e-3
    )


def test_a_broken_model_gives_a_loss_that_is_not_finite(
    model: GPTNeoXForCausalLM, tokens: torch.Tensor
) -> None:
    weight = model.lm_head.weight.data
    kept = weight[3, 0].clone()
    try:
        weight[3, 0] = math.nan
        found = window_losses(model, tokens, window=64, stride=64)
        assert math.isnan(found.nll_mean)
        assert found.num_tokens.sum() == 203 - 4
    finally:
        weight[3, 0] = kept
    assert np.isfinite(window_losses(model, tokens, window=64, stride=64).nll_mean)


def test_bf16_differs_a_little_and_says_nothing_else(
    model: GPTNeoXForCausalLM, tokens: torch.Tensor
) -> None:
    exact, rounded = (
        window_losses(model, tokens, window=64, stride=64, precision=p).nll_mean
        for p in ("fp32", "bf16")
    )  # type: ignore[arg-type]
    assert exact != rounded
    assert rounded == pytest.approx(exact, rel=0.02)


def test_tokens_and_windows_that_do_not_fit_the_model_are_refused(
    model: GPTNeoXForCausalLM, tokens: torch.Tensor
) -> None:
    model.config.max_position_embeddings = 64
    with pytest.raises(ValueError, match="token 61 is beyond the model's vocabulary of 61"):
        window_losses(model, torch.tensor([1, 61]), window=64, stride=64)
    with pytest.raises(
        ValueError, match="window of 65 tokens is longer than the model's context of 64"
    ):
        window_losses(model, tokens, window=65, stride=65)
    with pytest.raises(ValueError, match="stride must be between"):
        window_losses(model, tokens, window=10, stride=11)
