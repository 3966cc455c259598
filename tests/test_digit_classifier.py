"""The shipped classifier: what it gets right, and that it says where its weights are broken."""

import importlib.util
from pathlib import Path

import pytest
import torch
from torch import nn

from vaexp.data import bundled
from vaexp.errors import RunError
from vaexp.evaluation import digit_classifier
from vaexp.evaluation.digit_classifier import (
    FEATURES,
    WEIGHTS,
    DigitClassifier,
    load_classifier,
    read_digits,
)

SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "train_digit_classifier.py"
SHIPPED = bundled.FOLDER.with_name(WEIGHTS)


@pytest.fixture(scope="module")
def source():
    return bundled.read()


def share_right(split, rows: slice) -> float:
    log_prob = read_digits(load_classifier(), split.pixels[rows] / 255).log_prob
    return (log_prob.argmax(1) == split.label[rows]).double().mean().item()


def test_it_reads_a_thousand_test_images(source):
    """The first thousand, which are among the easier ones, and a thousand it was not trained on."""
    assert share_right(source.test, slice(1000)) >= 0.985
    assert share_right(source.train, slice(59_000, 60_000)) >= 0.985


@pytest.mark.slow
def test_it_reads_99_percent_of_the_test_images(source):
    found = share_right(source.test, slice(None))
    assert found >= 0.99
    with digit_classifier.safe_open(SHIPPED, "pt") as stored:
        assert found == pytest.approx(float(stored.metadata()["test_accuracy"]), abs=2e-4)


def test_weights_are_small_and_say_what_they_are_of():
    assert SHIPPED.stat().st_size < 1_000_000
    with digit_classifier.safe_open(SHIPPED, "pt") as stored:
        facts = stored.metadata()
    assert facts["data_sha256"] == bundled.SHA256
    assert facts["trained_on"] == "the first 50000 training images of MNIST"
    assert float(facts["test_accuracy"]) >= 0.99
    assert facts["seed"] == "7"


def test_features_and_predictions(source):
    x = source.train.pixels[:2000] / 255
    features, log_prob = read_digits(load_classifier(), x)
    assert features.shape == (2000, FEATURES)
    assert features.dtype == torch.float32
    assert (features >= 0).all()
    assert features.var(0).mean().item() == pytest.approx(1, rel=0.1)
    assert log_prob.shape == (2000, 10)
    assert log_prob.dtype == torch.float64
    assert torch.allclose(log_prob.exp().sum(1), torch.ones(2000).double())
    assert not log_prob.requires_grad


def test_each_image_is_read_by_itself(source):
    x = source.test.pixels[:300] / 255  # more than one block
    all_at_once = read_digits(load_classifier(), x)
    one = read_digits(load_classifier(), x[299:].double())
    assert torch.allclose(one.features[0], all_at_once.features[299], rtol=1e-4, atol=1e-5)
    assert torch.allclose(one.log_prob[0], all_at_once.log_prob[299], rtol=1e-4, atol=1e-4)


def test_the_network_is_the_formula(source):
    """Against the same layers, one after another."""
    net = load_classifier()
    x = source.test.pixels[:5] / 255
    layers: list[nn.Module] = [nn.Unflatten(1, (1, 28, 28))]
    for convolution in net.convolutions:
        layers += [convolution, nn.ReLU(), nn.MaxPool2d(2)]
    body = nn.Sequential(*layers, nn.Flatten(), net.features, nn.ReLU())
    features, scores = net(x)
    assert torch.equal(features, body(x))
    assert torch.equal(scores, net.scores(features))
    assert [c.out_channels for c in net.convolutions] == [16, 32, 64]


def test_images_of_another_size_are_refused():
    with pytest.raises(ValueError, match=r"\(3, 1024\).*\(N, 784\)"):
        read_digits(DigitClassifier(), torch.zeros(3, 1024))


@pytest.mark.parametrize("content", [None, b"", SHIPPED.read_bytes()[:5000]])
def test_broken_weights(tmp_path, monkeypatch, content):
    monkeypatch.setattr(digit_classifier, "files", lambda _: tmp_path)
    if content is not None:
        (tmp_path / WEIGHTS).write_bytes(content)
    with pytest.raises(RunError, match=r"digit_classifier.safetensors.*damaged or missing.*again"):
        load_classifier()


# The script


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("train_digit_classifier", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_shifted_moves_whole_images_by_up_to_two_pixels(script):
    x = torch.zeros(500, 28, 28)
    x[:, 10, 20] = 1
    torch.manual_seed(1)
    moved = script.shifted(x.flatten(1)).view(-1, 28, 28)
    assert torch.equal(moved.sum((1, 2)), torch.ones(500))
    _, row, column = moved.nonzero().T
    assert set((row - 10).tolist()) == set((column - 20).tolist()) == {-2, -1, 0, 1, 2}
    assert len(set(zip(row.tolist(), column.tolist(), strict=True))) == 25


def test_standardising_leaves_the_scores(script, source):
    torch.manual_seed(1)
    net, x = DigitClassifier(), source.test.pixels[:200] / 255
    before = read_digits(net, x)
    script.standardise(net, x)
    after = read_digits(net, x)
    assert torch.allclose(after.log_prob, before.log_prob, atol=1e-5)
    assert after.features.var(0).mean().item() == pytest.approx(1, rel=1e-4)


def test_training_learns_and_repeats(script, source, monkeypatch, capsys):
    monkeypatch.setattr(script, "EPOCHS", 2)
    x, label = source.train.pixels[:1500] / 255, source.train.label[:1500]
    nets = []
    for _ in range(2):
        torch.manual_seed(3)
        nets.append(DigitClassifier())
        script.fit(nets[-1], x, label)
    first, second = (net.state_dict() for net in nets)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert script.accuracy(nets[0], x, label) > 0.2
    assert capsys.readouterr().out.count("nats") == 4
