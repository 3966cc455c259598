"""Responsibilities kept as the few that count, against the dense ones."""

import pytest
import torch

from vaexp.models.covariances.responsibilities import (
    NEGLIGIBLE,
    Responsibilities,
    hard_responsibilities,
    posterior,
)

N, K, F = 60, 12, 5


def dense(r: Responsibilities) -> torch.Tensor:
    found = torch.zeros(r.images, len(r.counts), dtype=torch.float64)
    found[r.row, r.component] = r.value
    return found


def joint(spread: float) -> torch.Tensor:
    torch.manual_seed(1)
    return spread * torch.randn(N, K, dtype=torch.float64) - 300


@pytest.mark.parametrize("spread", [1.0, 1e3])  # many components for an image, or one
def test_the_posterior_is_bayes_rule(spread):
    ln_p = joint(spread)
    ln_p[3, 2:] = -torch.inf
    r, totals = posterior(ln_p)
    expected = ln_p.softmax(1)
    torch.testing.assert_close(
        dense(r), expected, rtol=1e-12, atol=K * torch.tensor(-NEGLIGIBLE).exp().item()
    )
    torch.testing.assert_close(r.weight, expected.sum(0), rtol=1e-12, atol=1e-20)
    ln_p_x = ln_p.logsumexp(1).sum()
    torch.testing.assert_close(totals.log_prob, ln_p_x, rtol=1e-14, atol=0)
    torch.testing.assert_close(totals.elbo, ln_p_x, rtol=1e-14, atol=0)
    entropy = torch.special.entr(expected).sum()
    torch.testing.assert_close(totals.entropy, entropy, rtol=1e-12, atol=1e-12)


def test_what_is_negligible_is_left_out_and_nothing_else():
    ln_p = torch.tensor([[0.0, 1 - NEGLIGIBLE, -1 - NEGLIGIBLE]], dtype=torch.float64)
    r, _ = posterior(ln_p)
    assert r.component.tolist() == [0, 1]
    assert r.counts.tolist() == [1, 1, 0]


@pytest.mark.parametrize("spread", [1.0, 1e3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_sums_are_those_of_the_product(spread, dtype):
    r, _ = posterior(joint(spread))
    assert (4 * len(r.row) > N * K) == (spread == 1)  # both ways are gone
    features = torch.randn(N, F, dtype=dtype)
    found = r.sums(features)
    assert found.dtype == torch.float64
    tolerance = 1e-12 if dtype == torch.float64 else 1e-5
    expected = dense(r).T @ features.double()
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)
    own = [(rows.tolist(), values.tolist()) for rows, values in r.by_component()]
    assert own[4] == (
        r.row[r.component == 4].tolist(),
        r.value[r.component == 4].tolist(),
    )


def test_images_assigned_to_one_component():
    component = torch.tensor([2, 0, 2, 1, 0, 4])
    r = hard_responsibilities(component, 6)
    torch.testing.assert_close(
        dense(r), torch.nn.functional.one_hot(component, 6).double(), rtol=0, atol=0
    )
    assert [rows.tolist() for rows, _ in r.by_component()] == [[1, 4], [3], [0, 2], [], [5], []]
    assert r.weight.tolist() == [2, 1, 2, 0, 1, 0]
    assert r.sums(torch.ones(6, 2))[:, 0].tolist() == [2, 1, 2, 0, 1, 0]
