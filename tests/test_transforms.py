import math

import pytest
import torch
from torch.distributions import Normal, SigmoidTransform, TransformedDistribution, Uniform

from vaexp.data.transforms import LOGIT_MARGIN, Transform

NAMES = ("scale", "dequantize", "logit", "binarize", "binarize_stochastic", "binarize_static")
RANDOM = {"dequantize", "logit", "binarize_stochastic"}
CONTINUOUS = {"dequantize", "logit"}
LN2 = math.log(2)

every = pytest.mark.parametrize("name", NAMES)
continuous = pytest.mark.parametrize("name", sorted(CONTINUOUS))


def seeded(name: str, pixels: torch.Tensor, seed: int = 0) -> torch.Tensor:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Transform(name)(pixels)


@pytest.fixture(scope="module")
def pixels() -> torch.Tensor:
    """(2560, 784): every grey value equally often; not a whole number of blocks."""
    return torch.arange(256, dtype=torch.uint8).repeat(2560 * 784 // 256).view(2560, 784)


@every
def test_shape_type_and_finite(name, pixels):
    x = seeded(name, pixels)
    assert x.shape == pixels.shape
    assert x.dtype == torch.float32
    assert x.isfinite().all()
    assert Transform(name)(pixels[:0]).shape == (0, 784)


@every
def test_the_seed_decides(name, pixels):
    assert torch.equal(seeded(name, pixels, 1), seeded(name, pixels, 1))
    assert torch.equal(seeded(name, pixels, 1), seeded(name, pixels, 2)) == (name not in RANDOM)


@every
def test_pixels_are_left_alone(name, pixels):
    before = pixels.clone()
    seeded(name, pixels)
    assert torch.equal(pixels, before)


def test_scale(pixels):
    assert torch.equal(seeded("scale", pixels), pixels.float() / 255)


def test_binarize_splits_at_one_half():
    x = seeded("binarize", torch.tensor([[0, 127, 128, 255]], dtype=torch.uint8))
    assert x.tolist() == [[0, 0, 1, 1]]


def test_binarize_stochastic_is_bernoulli():
    pixels = torch.tensor([[0, 1, 64, 128, 254, 255]], dtype=torch.uint8).expand(100_000, 6)
    x = seeded("binarize_stochastic", pixels)
    assert set(x.unique().tolist()) == {0, 1}
    p = pixels[0].double() / 255
    error = (p * (1 - p) / len(x)).sqrt()
    assert ((x.double().mean(0) - p).abs() <= 4 * error).all()  # exact where p is 0 or 1


def test_binarize_static_is_bernoulli_with_a_draw_that_the_image_alone_decides():
    levels = torch.tensor([0, 1, 64, 128, 254, 255], dtype=torch.uint8)
    images = torch.randint(256, (20_000, 784), dtype=torch.uint8)
    images[:, :6] = levels
    x = seeded("binarize_static", images)
    assert set(x.unique().tolist()) == {0, 1}
    p = levels.double() / 255
    error = (p * (1 - p) / len(x)).sqrt()
    assert ((x[:, :6].double().mean(0) - p).abs() <= 4 * error).all()  # exact for 0 and 255
    order = torch.randperm(len(images))
    assert torch.equal(seeded("binarize_static", images[order], seed=5), x[order])


def test_the_draws_of_binarize_static_do_not_depend_on_each_other():
    """Neighbouring pixels, and images that differ by one grey level in one pixel."""
    grey = torch.full((4_000, 784), 128, dtype=torch.uint8)
    grey[:, 0], grey[:, 1] = torch.arange(4_000) % 250, torch.arange(4_000) // 250
    x = seeded("binarize_static", grey)[:, 2:].double() - 128 / 255
    for a, b in ((x[:, :-1], x[:, 1:]), (x[:-1], x[1:]), (x[:-250], x[250:])):
        correlation = (a * b).mean() / (x.std() ** 2)
        assert abs(correlation) < 4 / math.sqrt(a.numel())


def test_dequantize_is_uniform_within_its_grey_value(pixels):
    x = seeded("dequantize", pixels).double()
    assert x.min() >= 0
    assert x.max() < 1
    u = 256 * x - pixels  # exact in float64
    assert u.min() >= 0
    assert u.max() < 1
    n = u.numel()
    assert abs(u.mean() - 1 / 2) < 4 * math.sqrt(1 / 12 / n)
    assert abs(u.square().mean() - 1 / 3) < 4 * math.sqrt(4 / 45 / n)
    counts = torch.histc(u, bins=20, min=0, max=1)
    chi2 = ((counts - n / 20).square() / (n / 20)).sum()
    assert chi2 < 43.8  # 0.999 quantile at 19 degrees of freedom


def test_logit_is_the_logit_of_dequantize(pixels):
    # The same draws under the same seed, so a float64 computation is an oracle.
    y = seeded("dequantize", pixels).double()
    expected = torch.logit(LOGIT_MARGIN + (1 - 2 * LOGIT_MARGIN) * y)
    torch.testing.assert_close(seeded("logit", pixels).double(), expected, atol=2e-6, rtol=1e-6)


def test_logit_is_finite_at_the_ends(monkeypatch):
    ends = {0: 0.0, 255: float(torch.nextafter(torch.tensor(256.0), torch.tensor(0.0)))}
    for p, y in ends.items():
        x_unit = torch.tensor([[y / 256]])
        monkeypatch.setattr("vaexp.data.transforms._dequantize", lambda _, x=x_unit: x)
        x = Transform("logit")(torch.tensor([[p]], dtype=torch.uint8))
        assert x.item() == pytest.approx(
            torch.logit(LOGIT_MARGIN + (1 - 2 * LOGIT_MARGIN) * x_unit.double()).item(), abs=2e-6
        )
        assert abs(x.item()) <= 13.8156


@every
def test_to_unit_returns_to_the_display_scale(name, pixels):
    x = seeded(name, pixels)
    unit = Transform(name).to_unit(x)
    if name == "logit":
        torch.testing.assert_close(unit, seeded("dequantize", pixels), atol=3e-7, rtol=0)
    else:
        assert unit is x


def test_to_unit_does_not_clip():
    unit = Transform("logit").to_unit(torch.tensor([-50.0, 50.0], dtype=torch.float64))
    assert unit[0] < 0
    assert unit[1] > 1


@continuous
def test_log_det_is_that_of_the_jacobian(name):
    y = torch.tensor([0.001, 3.2, 77.7, 128.0, 200.5, 255.9], dtype=torch.float64)

    def forward(y):
        unit = y / 256
        return torch.logit(1e-6 + (1 - 2e-6) * unit) if name == "logit" else unit

    jacobian = torch.autograd.functional.jacobian(forward, y)
    log_det = Transform(name).log_det(forward(y)[None])
    assert log_det.dtype == torch.float64
    torch.testing.assert_close(log_det, torch.linalg.slogdet(jacobian).logabsdet[None])


def test_log_det_keeps_float64_accuracy_for_float32_x(pixels):
    x = seeded("logit", pixels)
    torch.testing.assert_close(
        Transform("logit").log_det(x), Transform("logit").log_det(x.double()), rtol=0, atol=0
    )


@continuous
def test_uniform_density_has_eight_bits(name, pixels):
    x = seeded(name, pixels)
    if name == "dequantize":
        log_prob = Uniform(0.0, 1.0).log_prob(x).sum(1)
    else:
        # x = logit(a + (1 - 2a) t) with t uniform: a logistic density, cut off at the two ends.
        s = torch.sigmoid(x.double())
        log_prob = (s * (1 - s) / (1 - 2 * LOGIT_MARGIN)).log().sum(1)
    bits = Transform(name).bits_per_dim(log_prob, x)
    assert bits.shape == (len(pixels),)
    assert bits.dtype == torch.float64
    torch.testing.assert_close(bits, torch.full_like(bits, 8), rtol=0, atol=1e-9)


def test_both_transforms_give_the_same_bits_to_the_same_density(pixels):
    # A density on x = logit(...), pulled back to the unit interval by torch.distributions.
    z = seeded("logit", pixels[:50]).double()
    normal = Normal(torch.zeros((), dtype=torch.float64), 3.0)
    on_unit = TransformedDistribution(normal, [SigmoidTransform()])  # of s = a + (1 - 2a) t
    a = LOGIT_MARGIN
    t = Transform("logit").to_unit(z)
    log_prob = (on_unit.log_prob(a + (1 - 2 * a) * t) + math.log(1 - 2 * a)).sum(1)
    torch.testing.assert_close(
        Transform("logit").bits_per_dim(normal.log_prob(z).sum(1), z),
        Transform("dequantize").bits_per_dim(log_prob, t),
        rtol=1e-9,
        atol=0,
    )


def test_bits_per_dim_is_papamakarios_formula(pixels):
    x = seeded("logit", pixels[:50])
    log_prob = Normal(0.0, 5.0).log_prob(x).sum(1)
    a, s = LOGIT_MARGIN, torch.sigmoid(x.double())
    expected = (
        -log_prob.double() / (784 * LN2)
        - math.log2(1 - 2 * a)
        + 8
        + (s.log2() + (1 - s).log2()).mean(1)
    )
    torch.testing.assert_close(Transform("logit").bits_per_dim(log_prob, x), expected)


@every
def test_only_densities_of_grey_values_have_bits_per_dim(name):
    transform = Transform(name)
    assert transform.has_bits_per_dim == (name in CONTINUOUS)
    if name not in CONTINUOUS:
        with pytest.raises(ValueError, match=f"^{name} has no Jacobian$"):
            transform.bits_per_dim(torch.zeros(1), torch.zeros(1, 4))
