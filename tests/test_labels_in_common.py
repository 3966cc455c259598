"""The error of the distance between two means whose images have their labels in common."""

import pytest
import torch
from torch import Tensor

from vaexp.evaluation.image_moments import covariance_of_means, mean_distance, moments

D, LABELS = 5, 4
SHARES = torch.tensor([0.4, 0.3, 0.2, 0.1])
OF_LABEL = 3 * torch.randn(LABELS, D, generator=torch.Generator().manual_seed(1))
SHIFT = torch.tensor([2.0, 0.0, 0.0, 0.0, 0.0])


def sets(n: int, draws: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Data (n, D) with labels (n,), and draws with the labels of some of them, in random order."""
    label = SHARES.multinomial(n, replacement=True)
    data = OF_LABEL[label] + torch.randn(n, D)
    drawn = label[torch.randperm(n)[:draws]]
    return OF_LABEL[drawn] + SHIFT + 0.5 * torch.randn(draws, D), drawn, data, label


@pytest.mark.parametrize("draws", [200, 50])
def test_the_covariance_of_the_means_is_that_over_repetitions(draws: int) -> None:
    torch.manual_seed(2)
    means, stated = [], []
    for _ in range(1500):
        images, drawn, data, label = sets(200, draws)
        means.append(torch.cat([images.mean(0), data.mean(0)]))
        if len(stated) < 100:
            stated.append(covariance_of_means(moments(images), drawn, moments(data), label))
    found = torch.stack(means).T.cov()[:D, D:].double()
    average = torch.stack(stated).mean(0)
    assert torch.allclose(average, found, rtol=0, atol=0.12 * found.diagonal().max().item())


def test_labels_in_common_make_the_error_of_the_distance_smaller() -> None:
    torch.manual_seed(3)
    distances, known, unknown = [], [], []
    for _ in range(300):
        images, drawn, data, label = sets(200, 200)
        a, b = moments(images), moments(data)
        one = mean_distance(a, b, covariance_of_means(a, drawn, b, label))
        distances.append(one.value)
        known.append(one.se)
        unknown.append(mean_distance(a, b).se)
    spread = torch.tensor(distances).std().item()
    assert torch.tensor(known).mean().item() == pytest.approx(spread, rel=0.12)
    assert torch.tensor(unknown).mean().item() > 1.5 * spread


def test_a_single_label_says_nothing() -> None:
    torch.manual_seed(4)
    a, b = moments(torch.randn(30, D)), moments(torch.randn(40, D))
    label = torch.zeros(40, dtype=torch.int64)
    in_common = covariance_of_means(a, label[:30], b, label)
    assert in_common.abs().max() < 1e-15
    assert mean_distance(a, b, in_common).se == pytest.approx(mean_distance(a, b).se)
