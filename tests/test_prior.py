"""The share of prior draws outside of the codes' region, and a mixture of the codes to draw from.

Where all images have the same posterior N(m, s^2 I), the codes of all of them have that density,
and 99 % of them lie in a ball around m.
"""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import chi2, ncx2
from small_models import in_blocks, linear_vae, no_label, orthogonal_ppca, set_posterior
from torch import Tensor
from torch.distributions import Independent, Normal, kl_divergence

from vaexp.evaluation import code_mixture as module
from vaexp.evaluation import support as support_module
from vaexp.evaluation.aggregate import Aggregate
from vaexp.evaluation.code_mixture import CodeMixture
from vaexp.evaluation.prior import AN_INDEX, elbo_gain
from vaexp.evaluation.support import TOO_FEW, Support
from vaexp.figures.evidence import About
from vaexp.figures.evidence.prior import draw as draw_figure
from vaexp.fitting import codes
from vaexp.fitting.codes import mixture_of_codes
from vaexp.fitting.em import Collapse
from vaexp.models import VAE
from vaexp.models.absent import Absent
from vaexp.runs.folder import RunFolder

D = 4


def one_posterior(middle: list[float], scale: list[float], classes: int = 0) -> VAE:
    """q(z|x) = N(middle, diag scale^2) for every x."""
    latents = len(middle)
    model = linear_vae(D, latents, classes=classes).double().requires_grad_(False)
    weight = torch.zeros(latents, D + classes, dtype=torch.float64)
    return set_posterior(model, weight, torch.tensor(middle, dtype=torch.float64), scale)


def prior_draws(n: int, latents: int, seed: int = 3) -> Tensor:
    torch.manual_seed(seed)
    return torch.randn(n, latents, dtype=torch.float64)


def found_support(aggregate: Aggregate, model: Any, x: Tensor, label: Tensor) -> Support:
    found = Support.of(aggregate, model.encode(x, label).sample(), label)
    assert not isinstance(found, Absent)
    return found


# The region of the codes


@pytest.mark.parametrize(
    ("middle", "scale"),
    [([0.0], 1.0), ([0.5], 0.5), ([1.0, -0.5], 0.6), ([0.2] * 10, 0.7), ([0.0] * 10, 1.0)],
)
def test_the_share_outside_is_that_of_a_ball(
    middle: list[float], scale: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """|z - m|^2 / s^2 of z ~ N(0, I) is 1 / s^2 times a noncentral chi-squared variable."""
    monkeypatch.setattr(support_module, "MOST_CODES", 20_000)
    latents = len(middle)
    model = one_posterior(middle, [scale] * latents)
    x = torch.randn(20_000, D).double()
    aggregate = Aggregate(model, lambda: in_blocks(x[:50]))
    torch.manual_seed(2)
    region = found_support(aggregate, model, x, no_label(x))
    z = prior_draws(20_000, latents)
    found = region.share_outside(aggregate.log_prob(z, no_label(z)), no_label(z))
    reach = chi2.ppf(0.99, latents) * scale**2
    distance = sum(one**2 for one in middle)
    exact = ncx2.sf(reach, latents, distance) if distance else chi2.sf(reach, latents)
    assert found.se is not None
    assert abs(found.value - exact) < 4 * found.se
    assert found.se < 0.012
    if scale == 1:  # the codes are draws of the prior
        assert exact == pytest.approx(0.01)


def test_of_a_conditional_model_each_label_has_a_region_of_its_own() -> None:
    """Codes of 0 lie around -2 and those of 1 around 2, and p(z) between them is of neither."""
    model = one_posterior([0.0], [0.5], classes=2)
    model.posterior.weight[0, D:] = torch.tensor([-2.0, 2.0])
    x, label = torch.randn(2_000, D).double(), torch.arange(2_000) % 2
    aggregate = Aggregate(model, lambda: in_blocks(x[:100], label[:100]))
    torch.manual_seed(2)
    region = found_support(aggregate, model, x, label)
    z = torch.tensor([[-2.0], [2.0], [0.0]]).double().repeat(2, 1)
    asked = torch.tensor([0, 0, 0, 1, 1, 1])
    margin = region.margin(aggregate.log_prob(z, asked), asked)
    assert (margin < 0).tolist() == [False, True, True, True, False, True]
    # of z between both an unconditional region of the same codes would say the same for both labels
    assert margin[2] == pytest.approx(margin[5], abs=2)
    codes = region.margins_of_codes()
    assert len(codes) == 2_000
    assert (codes < 0).double().mean().item() == pytest.approx(0.01, abs=0.002)


@pytest.mark.parametrize(("ring", "outside"), [(True, 1.0), (False, 0.0)])
def test_codes_so_narrow_that_others_fall_between_them_have_a_region_all_the_same(
    ring: bool, outside: float
) -> None:
    """Codes on a ring of radius 6, or all over a disc of it, and posteriors of a width of 1e-4."""
    torch.manual_seed(1)
    angle, radius = torch.rand(1_000).double() * 2 * math.pi, 6 + 0.2 * torch.randn(1_000).double()
    radius = radius if ring else 6 * torch.rand(1_000).double().sqrt()
    x = torch.stack([radius * angle.cos(), radius * angle.sin(), *torch.randn(2, 1_000)], 1)
    model = one_posterior([0.0, 0.0], [1e-4, 1e-4])
    model.posterior.weight[:2] = torch.eye(2, D).double()
    aggregate = Aggregate(model, lambda: in_blocks(x[:500]))
    z = prior_draws(1_000, 2)
    region = found_support(aggregate, model, x[500:], no_label(x[500:]))
    share = region.lies_outside(z, no_label(z)).double().mean().item()
    assert share == pytest.approx(outside, abs=0.02)
    assert 0.05 < region.width < 1  # neither that of a code nor that of all codes


def test_posteriors_that_overlap_are_not_widened() -> None:
    x = torch.randn(2_000, D).double()
    model = one_posterior([0.0], [0.8])
    model.posterior.weight[0, 0] = 0.6
    aggregate = Aggregate(model, lambda: in_blocks(x[:1_000]))
    assert found_support(aggregate, model, x[1_000:], no_label(x[1_000:])).width < 0.2


def test_too_few_codes_have_no_region() -> None:
    model = one_posterior([0.0], [1.0], classes=2)
    x, label = torch.randn(300, D).double(), (torch.arange(300) < 99).long()
    aggregate = Aggregate(model, lambda: in_blocks(x, label))
    codes = model.encode(x, label).sample()
    assert Support.of(aggregate, codes, label) == TOO_FEW
    found = Support.of(aggregate, codes, (torch.arange(300) < 100).long())
    assert not isinstance(found, Absent)


def test_the_error_is_the_spread_of_repetitions() -> None:
    """Other draws of z, and other held-out codes."""
    model = one_posterior([0.5], [0.5])
    x = torch.randn(500, D).double()
    aggregate = Aggregate(model, lambda: in_blocks(x[:50]))
    values, errors = [], []
    for seed in range(60):
        z = prior_draws(400, 1, seed)
        region = found_support(aggregate, model, x, no_label(x))
        share = region.share_outside(aggregate.log_prob(z, no_label(z)), no_label(z))
        values.append(share.value)
        errors.append(share.se)
    stated = np.sqrt(np.mean(np.square(errors)))
    assert 1 / 1.35 < stated / np.std(values, ddof=1) < 1.35


# The mixture


def clusters(n: int, centres: list[list[float]], scale: float, seed: int = 1) -> Tensor:
    torch.manual_seed(seed)
    places = torch.tensor(centres, dtype=torch.float64)
    noise = scale * torch.randn(n, places.shape[1], dtype=torch.float64)
    return places[torch.randint(len(places), (n,))] + noise


def test_there_are_as_many_components_as_held_out_codes_ask_for() -> None:
    assert len(mixture_of_codes(clusters(2_000, [[0.0, 0.0]], 1.0), 0).weight) == 1
    four = [[3.0, 3.0], [3.0, -3.0], [-3.0, 3.0], [-3.0, -3.0]]
    z = clusters(2_000, four, 0.5)
    found = mixture_of_codes(z, 0)
    assert len(found.weight) == 4
    assert torch.allclose(found.weight, torch.full((4,), 0.25).double(), atol=0.03)
    nearest = torch.cdist(found.gaussians.mean.double(), torch.tensor(four).double()).min(0).values
    assert nearest.max() < 0.1
    # of codes that it has not seen it says what the distribution itself says
    new = clusters(5_000, four, 0.5, seed=2)
    each = Independent(Normal(torch.tensor(four).double()[:, None], 0.5), 1).log_prob(new)
    truth = (each.logsumexp(0) - np.log(4)).mean()
    assert found.log_prob(new).mean() == pytest.approx(truth.item(), abs=0.02)


@pytest.mark.parametrize("n", [1, 2, 7])
def test_a_few_codes_and_codes_that_are_all_alike_have_a_mixture(n: int) -> None:
    for z in (prior_draws(n, 3), torch.ones(n, 3).double()):
        found = mixture_of_codes(z, 0)
        assert len(found.weight) == 1
        assert found.log_prob(z).isfinite().all()
    several = torch.ones(60, 3).double()
    assert len(mixture_of_codes(several, 0).weight) == 1


def test_the_gain_is_the_divergence_that_the_prior_costs() -> None:
    """With all posteriors the same, q(z) is that posterior and the mixture recovers it: the gain is
    KL(q(z) to p(z)), which is the whole rate."""
    model = one_posterior([1.0, -0.5], [0.6, 0.3])
    x = torch.randn(4_000, D).double()
    mixture = CodeMixture(Aggregate(model, lambda: in_blocks(x)))
    assert mixture.components == {0: 1}
    torch.manual_seed(4)
    gain = elbo_gain(model, x, no_label(x), mixture).summary()
    rate = kl_divergence(model.encode(x[:1]), model.prior()).item()
    assert gain["value"] == pytest.approx(rate, abs=4 * gain["mc_se"] + 0.003)
    assert gain["mc_se"] < 0.02
    assert gain["value"] < rate + 4 * gain["mc_se"]


def test_its_draws_are_those_of_each_label_and_the_same_wherever_it_is_made() -> None:
    model = one_posterior([0.0, 0.0], [0.5, 0.2], classes=2)
    model.posterior.weight[0, D:] = torch.tensor([-2.0, 2.0])
    x, label = torch.randn(1_000, D).double(), torch.arange(1_000) % 2
    made = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        made.append(CodeMixture(Aggregate(model, lambda: in_blocks(x, label))))
        assert torch.initial_seed() == seed
    z = prior_draws(50, 2)
    asked = torch.arange(50) % 2
    assert torch.equal(made[0].log_prob(z, asked), made[1].log_prob(z, asked))
    asked = (torch.arange(9_000) % 3 == 0).long()
    drawn = made[0].sample(asked)
    for one, middle in ((0, -2.0), (1, 2.0)):
        of_label = drawn[asked == one]
        assert of_label.mean(0).tolist() == pytest.approx([middle, 0.0], abs=0.1)
        assert of_label.std(0).tolist() == pytest.approx([0.5, 0.2], rel=0.15)


def test_of_one_label_only_that_mixture_is_fitted_and_it_is_the_same() -> None:
    x, label = torch.randn(200, D).double(), torch.arange(200) % 2
    aggregate = Aggregate(one_posterior([0.0], [1.0], classes=2), lambda: in_blocks(x, label))
    both, one = CodeMixture(aggregate), CodeMixture(aggregate, [1])
    assert (list(both.mixtures), list(one.mixtures)) == ([0, 1], [1])
    z, asked = prior_draws(20, 1), torch.ones(20, dtype=torch.int64)
    assert torch.equal(both.log_prob(z, asked), one.log_prob(z, asked))


def test_components_that_collapse_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message of a collapse names a key that only mixtures have."""

    def collapse(*_: Any) -> Any:
        raise Collapse("component 1", "it holds 1 image")

    found = mixture_of_codes(clusters(200, [[0.0, 0.0], [9.0, 9.0]], 1.0), 0)
    assert len(found.weight) == 2
    first = codes._fitted
    monkeypatch.setattr(codes, "_fitted", lambda z, k, s: first(z, k, s) if k < 2 else collapse())
    assert len(mixture_of_codes(clusters(200, [[0.0, 0.0], [9.0, 9.0]], 1.0), 0).weight) == 1


def test_only_so_many_codes_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def spy(z: Tensor, seed: int) -> Any:
        seen.append(len(z))
        return mixture_of_codes(z, seed)

    monkeypatch.setattr(module, "MOST_CODES", 80)
    monkeypatch.setattr(module, "mixture_of_codes", spy)
    x, label = torch.randn(200, D).double(), (torch.arange(200) < 30).long()
    CodeMixture(Aggregate(one_posterior([0.0], [1.0], classes=2), lambda: in_blocks(x, label)))
    assert seen == [40, 30]


def test_of_ppca_the_codes_fill_the_prior() -> None:
    """Images of the model itself: q(z) is p(z), and nothing is gained."""
    model = orthogonal_ppca(D, (1.5, 0.6), 0.5)
    torch.manual_seed(1)
    x = model.decode(torch.randn(3_000, 2).double()).sample()
    aggregate = Aggregate(model, lambda: in_blocks(x))
    mixture = CodeMixture(aggregate)
    gain = elbo_gain(model, x, no_label(x), mixture).summary()
    assert abs(gain["value"]) < 4 * gain["se"] + 0.01
    region = found_support(aggregate, model, x, no_label(x))
    z = prior_draws(2_000, 2)
    share = region.share_outside(aggregate.log_prob(z, no_label(z)), no_label(z))
    assert share.value == pytest.approx(0.01, abs=4 * (share.se or 0))


# The commands


def test_evaluate_measures_both_and_draws_them(fixed: Path, copy_of: Any, invoke: Any) -> None:
    run = copy_of(fixed)
    done = invoke("evaluate", run, "--only", "prior", "--json")
    assert done.exit_code == 0, done.stderr
    assert f"figure {run}/figures/evidence-prior.png" in done.stderr
    found = json.loads(done.stdout)
    assert found["outside_mixture"]["value"] < 0.05
    assert 0 <= found["outside_prior"]["value"] <= 1
    gain, entries = found["elbo_gain_mixture"], RunFolder(run).metrics()["test"]
    # of these images no prior gains more than KL(q(z|y) to p(z)); that of others is near
    assert gain["value"] < entries["marginal_kl_given_label"]["value"] + 0.1
    arrays = RunFolder(run).evidence("prior")
    assert arrays["image_prior"].shape == arrays["image_mixture"].shape
    assert (arrays["margin_prior"] < 0).mean() == found["outside_prior"]["value"]
    assert "Draws of z, from the prior" in invoke("compare", run, fixed).stdout
    few = json.loads(invoke("evaluate", run, "--only", "prior", "--images", "40", "--json").stdout)
    assert few["outside_prior"] == {"value": None, "absent": TOO_FEW.reason}
    assert few["elbo_gain_mixture"]["n"] == 40


def test_a_mixture_has_no_other_prior(exact: Any, copy_of: Any, invoke: Any) -> None:
    run = copy_of(exact("diag").run.path)
    found = json.loads(invoke("evaluate", run, "--only", "prior", "--json").stdout)
    assert set(found) == {"outside_prior", "outside_mixture", "elbo_gain_mixture"}
    assert {entry["absent"] for entry in found.values()} == {AN_INDEX}
    done = invoke("sample", run, "--prior", "gmm")
    assert done.exit_code == 2
    assert done.stderr == "--prior: z of a mixture is the index of a component; leave it out\n"


def test_sample_draws_from_the_mixture(fixed: Path, copy_of: Any, draw: Any, invoke: Any) -> None:
    run = copy_of(fixed)
    image, arrays = draw(run, "--prior", "gmm", "--label", "4", "-n", "300")
    assert image.name.startswith("mean-label4-gmm-n300-")
    assert set(arrays["label"]) == {4}
    _, again = draw(run, "--prior", "gmm", "--label", "4", "-n", "300")
    np.testing.assert_array_equal(arrays["z"], again["z"])
    _, other = draw(run, "--prior", "gmm", "--label", "4", "-n", "300", "--seed", "9")
    assert not np.allclose(arrays["z"], other["z"])
    _, of_prior = draw(run, "--label", "4", "-n", "300")
    assert not np.allclose(arrays["z"], of_prior["z"])
    _, noisy = draw(run, "--prior", "gmm", "--decode", "sample")
    assert noisy["x"].std() > arrays["x"].std()
    assert noisy["label"].tolist() == [4, 9] * 5
    done = invoke("sample", run, "--prior", "gmm", "--grid")
    assert done.exit_code == 2
    assert done.stderr.startswith("--prior: a grid shows all of the plane")


def test_z_of_the_mixture_is_where_the_codes_are(exact: Any, copy_of: Any, draw: Any) -> None:
    """pPCA on images of two digits, whose codes have mean 0 and, in all, the variance of p(z)."""
    _, arrays = draw(copy_of(exact("ppca").run.path), "--prior", "gmm", "-n", "2000")
    assert arrays["z"].mean(0) == pytest.approx(np.zeros(3), abs=0.25)
    assert arrays["z"].std(0) == pytest.approx(np.ones(3), abs=0.25)


def test_a_digit_without_codes_cannot_be_drawn(tmp_path: Path, invoke: Any) -> None:
    (tmp_path / "few.yaml").write_text(
        "model: {kind: vae, hidden: [8]}\ndata: {limit: 5, validation_size: 100}\n"
        "train: {epochs: 1}\nevaluate: {importance_samples: 0}\n"
    )
    trained = invoke("train", tmp_path / "few.yaml", "--runs-dir", tmp_path, "--quick")
    assert trained.exit_code == 0, trained.stderr
    run = trained.stdout.strip()
    done = invoke("sample", run, "--prior", "gmm", "--label", "7")
    assert done.exit_code == 2
    assert "no training image of this run is a 7, so there are no codes of it" in done.stderr
    done = invoke("evaluate", run, "--only", "prior")
    assert done.exit_code == 0
    assert "so there are no codes of it" in done.stderr


def test_the_figure_has_the_shares_left_of_the_line() -> None:
    arrays = {
        "margin_codes": np.linspace(-0.1, 9.9, 100),
        "margin_prior": np.linspace(-5.0, 5.0, 100),
        "margin_mixture": np.linspace(0.1, 9.0, 100),
        "image_prior": np.zeros((3, 16)),
        "image_mixture": np.ones((3, 16)),
    }
    entries = {
        "outside_prior": {"value": 0.5},
        "outside_mixture": {"value": 0.0},
        "elbo_gain_mixture": {"value": 1.25, "components": 7},
    }
    figure = draw_figure(arrays, entries, About("settings", 0.0, False, (4, 4)))
    curves = figure.axes[0].lines[:3]
    for curve, share in zip(curves, (0.01, 0.5, 0.0), strict=True):
        x, y = np.asarray(curve.get_xdata()), np.asarray(curve.get_ydata())
        assert (y[x < 0].max() if (x < 0).any() else 0.0) == pytest.approx(share, abs=0.011)
    words = str(figure.get_label())
    assert "50.0% of z ~ p(z) and 0% of z ~ mixture" in words
    assert "with 7 components in all" in words
    assert len(figure.axes) == 3
    none_outside = entries | {"outside_prior": {"value": 0.0}}
    figure = draw_figure(arrays, none_outside, About("settings", 0.0, False, (4, 4)))
    assert "μ(z) of z ~ p(z) of which none lies left of the line" in [
        text.get_text() for text in figure.texts
    ]
