"""The answers to the report's questions, on made-up numbers: they follow the numbers, both ways."""

import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from vaexp.config import load_config
from vaexp.reproduction import questions
from vaexp.reproduction.answers import (
    Answer,
    Asked,
    Question,
    by_runs,
    compared,
    findings,
    in_mean_and_median,
    says,
    sign,
)
from vaexp.reproduction.cells import for_sentence, for_table
from vaexp.reproduction.questions import (
    QUESTIONS,
    beta_and_sigma,
    codes,
    collapse,
    covariance,
    facilitates,
    learned_sigma,
    networks,
    outside,
    prior_draws,
    sampling,
    singularities,
)
from vaexp.reproduction.reproduce import questions as asked
from vaexp.reproduction.reproduce import studies
from vaexp.reproduction.size import QUICK, Size
from vaexp.reproduction.studies import Done, Repeated, Study

Numbers = Mapping[str, Mapping[str, float]]
"""For each measure its value by a word that the runs are known by; "" stands for all others."""


class Known(Done):
    """Runs whose numbers are given, so that nothing is trained and no folder is read."""

    def __init__(self, numbers: Numbers, seeds: int = 2, factor: float = 1.0):
        super().__init__({})
        object.__setattr__(self, "numbers", numbers)
        object.__setattr__(self, "count", seeds)
        object.__setattr__(self, "factor", factor)
        self.numbers: Numbers
        self.count: int
        self.factor: float

    def seeds(self, study: Study) -> int:
        return min(self.count, study.seeds)

    def of(self, study: Study, settings: Mapping[str, Any] | None = None) -> Repeated:
        varied = [f"{key}={value}" for key, value in (settings or {}).items()]
        name = " ".join([study.config, *(varied or study.grid)])
        runs = Repeated(())
        entries = [
            {
                measure: {"value": self.factor * _value(values, name), "se": 1e-3}
                for measure, values in self.numbers.items()
            }
            for _ in range(self.count)
        ]
        same = [text for text in study.grid if "," not in text]
        runs.__dict__.update(entries=entries, config=load_config(study.config, [*same, *varied]))
        return runs


def _value(values: Mapping[str, float], name: str) -> float:
    """The value of the first word that the name has."""
    return next(value for word, value in values.items() if word in name)


def text(answer: Callable[[Done], Answer], done: Done) -> str:
    return " ".join(sentences(answer(done)))


def sentences(answer: Answer) -> list[str]:
    """All sentences of an answer, the short ones first."""
    return [*answer.short, *answer.details]


LINEAR = {"sigma=2.5": 0.0, "sigma=0.7": 4.0, "sigma=1.4": 4.0, "": 10.0}
CASES: dict[str, tuple[Callable[[Done], Answer], Numbers, str, str]] = {
    # the numbers, then what they say, and what all of them with the other sign say
    "fixed": (
        learned_sigma.answer,
        {"rmse_mean": {"mean-only": 0.25, "": 0.2}, "elbo": {"": 1.0}},
        "gives better reconstructed images fails",
        "gives better reconstructed images holds",
    ),
    "beta with learned sigma": (
        beta_and_sigma.answer,
        {
            "rate": {"beta=4.0": 5.0, "beta=0.25": 20.0, "": 9.0},
            "rmse_mean": {"": 0.2},
            "sigma": {"": 0.2},
        },
        "In fact the rate falls as β rises.",
        "In fact the rate rises with β.",
    ),
    "which distribution": (
        beta_and_sigma.answer,
        {
            "rate": {"": 5.0},
            "rmse_mean": {"": 0.2},
            "sigma": {"": 0.2},
            "induced_elbo": {"": 100.0},
            "elbo": {"": 200.0},
            "marginal_kl_given_label": {"beta=4.0": 0.1, "": 0.5},
        },
        "the other one has a lower bound",
        "the other one has a higher bound",
    ),
    "which distribution, codes": (
        beta_and_sigma.answer,
        {
            "rate": {"": 5.0},
            "rmse_mean": {"": 0.2},
            "sigma": {"": 0.2},
            "marginal_kl_given_label": {"beta=4.0": 0.1, "": 0.5},
        },
        "it does bring them nearer: the codes of a digit are nearer",
        "here it does not, as the codes of a digit are further",
    ),
    "means": (
        sampling.answer,
        {"digit_fid_mean": {"": 20.0}, "digit_fid_sample": {"": 30.0}},
        "better than draws holds for 3 of the 3 kinds of σ",
        "better than draws holds for 0 of the 3 kinds of σ",
    ),
    "averages": (
        sampling.answer,
        {"optimal_mean_gap_prior": {"": 0.2}, "optimal_mean_gap_codes": {"": 0.1}},
        "which is more",
        "which is less",
    ),
    "blends": (
        sampling.answer,
        {"optimal_mean_gap_prior": {"": 0.02}, "rmse_optimal_mean": {"": 0.2}},
        "the process draws blends of real images",
        "what the process draws is no such average",
    ),
    "the goal": (
        sampling.answer,
        {"two_sample_accuracy_mean": {"": 0.9}, "two_sample_accuracy_control": {"": 0.5}},
        "is not reached: a classifier tells μ(z) from real images more often",
        "A classifier tells μ(z) from real images less often",
    ),
    "smoothness of means": (
        sampling.answer,
        {"neighbour_correlation_mean": {"": 0.9}, "neighbour_correlation_data": {"": 0.75}},
        "Images μ(z) are smoother than real ones",
        "Images μ(z) are grainier than real ones",
    ),
    "means, by a Parzen window": (
        sampling.answer,
        {"parzen_mean": {"": 200.0}, "parzen_sample": {"": 100.0}},
        "it gives μ(z) more nats than draws, 200 against 100. ",
        "it gives μ(z) fewer nats than draws, -200 against -100. ",
    ),
    "real images, by a Parzen window": (
        sampling.answer,
        {"parzen_centroids": {"": 284.6}, "parzen_train": {"": 243.8}},
        "a tenth as many averages of real images score more than real images, 284.6 against 243.8",
        "A tenth as many averages of real images score less than real images",
    ),
    "covariance": (
        covariance.answer,
        {"digit_fid_sample": {"factors=16": 25.0, "gmm": 40.0, "": 30.0}},
        "draws lie nearer to real images",
        "draws lie further from real images",
    ),
    "covariance, likelihood": (
        covariance.answer,
        {"elbo": {"factors=16": 2.0, "": 1.0}},
        "ln p(x|y) is higher with factors",
        "ln p(x|y) is lower with factors",
    ),
    "outside": (
        outside.answer,
        {
            "elbo_levels": {"vae-logistic": -1200.0, "": -1400.0},
            "digit_fid_sample": {"": 30.0},
            "neighbour_correlation_sample": {"": 0.4},
            "neighbour_correlation_data": {"": 0.75},
        },
        "A discretised logistic gives more mass",
        "A discretised logistic gives less mass",
    ),
    "outside, images": (
        outside.answer,
        {"digit_fid_sample": {"sigma-per-pixel": 30.0, "": 40.0}},
        "The domain is not what makes the draws bad",
        "The domain may be a reason",
    ),
    "outside, some": (
        outside.answer,
        {"digit_fid_sample": {"vae-logistic": 20.0, "sigma-per-pixel": 30.0, "": 40.0}},
        "the draws of the discretised logistic lie nearer",
        "the draws of the Gaussian truncated to [0, 1] and the continuous Bernoulli lie nearer",
    ),
    "outside, grain": (
        outside.answer,
        {"neighbour_correlation_sample": {"": 0.4}, "neighbour_correlation_data": {"": 0.75}},
        "Draws of each of these families are grainier",
        "Not each of these families gives draws that are grainier",
    ),
    "collapse": (
        collapse.answer,
        {"active_units": {"beta-large": 0.0} | LINEAR, "law_active_units": LINEAR},
        "the active latents fall from 10",
        "more latents are active, against the law",
    ),
    "singularities": (
        singularities.answer,
        {
            "elbo": {"floor=0.001": 2000.0, "floor=1e-06": 2000.0, "": 100.0},
            "elbo_levels": {"floor=0.001": -1500.0, "floor=1e-06": -1500.0, "": -1400.0},
        },
        "rises as the floor falls. The mass on the grey levels of test images falls.",
        "falls as the floor falls. The mass on the grey levels of test images rises.",
    ),
    "singularities, images": (
        singularities.answer,
        {"digit_fid_mean": {"floor=0.001": 50.0, "sigma_floor": 30.0, "": 20.0}},
        "Those of σ = 1 are nearer still. There is a gap",
        "are further from real ones. Fixing σ at 1 does not help here to begin with",
    ),
    "facilitates": (
        facilitates.answer,
        {
            "rate": {"sigma=0.1": 9.0, "sigma=0.2": 7.0, "sigma=0.3": 5.0, "": 6.0},
            "rmse_mean": {"sigma=0.1": 0.1, "sigma=0.2": 0.2, "sigma=0.3": 0.3, "": 0.2},
        },
        "the error of μ(z) is smaller than with a fixed σ",
        "the error of μ(z) is larger than with a fixed σ",
    ),
    "prior draws": (
        prior_draws.answer,
        {
            "digit_fid_mean": {"beta-small": 78.0, "": 20.0},
            "digit_fid_mean_posterior": {"": 15.0},
            "outside_prior": {"beta-small": 0.3, "": 0.1},
        },
        "The report's conjecture holds, though not for most draws: a share of 0.3 of",
        "The report's conjecture does not hold here",
    ),
    "prior draws, outside": (
        prior_draws.answer,
        {"outside_prior": {"": 0.4}, "outside_mixture": {"": 0.01}},
        "of z from a Gaussian mixture that is fitted to the codes (`vaexp sample",
        "and even more of z from a Gaussian mixture",
    ),
    "prior draws, cure": (
        prior_draws.answer,
        {"digit_fid_mean": {"": 30.0}, "digit_fid_mean_mixture": {"": 20.0}},
        "Drawing z from this mixture helps",
        "Drawing z from this mixture does not help",
    ),
    "networks": (
        networks.answer,
        {"elbo": {"unconditional": 350.0, "": 180.0}, "log_prob": {"": 180.0}},
        "above the 180 nats",
        "lies below pPCA's ln p(x)",
    ),
    "networks, mixture": (
        networks.answer,
        {"digit_fid_mean": {"unconditional": 40.0, "gmm": 15.0, "": 70.0}},
        "By digit FID the means of a mixture lie nearer",
        "lie nearer to real images than those of a mixture",
    ),
    "codes": (
        codes.answer,
        {
            "linear_probe_accuracy": {"": 0.9},
            "linear_probe_accuracy_pca": {"": 0.8},
            "knn_accuracy": {"": 0.95},
            "knn_accuracy_pca": {"": 0.9},
            "cluster_accuracy": {"unconditional": 0.7, "": 0.5},
            "rmse_code": {"": 0.1},
            "rmse_pca": {"": 0.2},
        },
        "better than a linear method in 3 of the 3 comparisons. For storage their error is smaller",
        "better than a linear method in 0 of the 3 comparisons. For storage their error is larger",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_sentence_flips_when_the_numbers_do(case: str) -> None:
    answer, numbers, one, other = CASES[case]
    there, mirrored = text(answer, Known(numbers)), text(answer, Known(numbers, factor=-1.0))
    assert one in there
    assert other not in there
    assert other in mirrored
    assert one not in mirrored


@pytest.mark.parametrize("case", CASES)
def test_numbers_without_a_difference_say_neither(case: str) -> None:
    answer, numbers, one, other = CASES[case]
    level = text(answer, Known({measure: {"": 0.5} for measure in numbers}))
    if case not in ("means", "codes"):  # whose sentence counts what holds
        assert one not in level
    if case not in ("means", "outside, grain", "codes"):
        assert other not in level


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.title)
def test_without_the_measures_an_answer_says_so(question: Question) -> None:
    answer = question.answer(Known({}))
    said = " ".join(sentences(answer))
    assert "not measured" in said or "there is none at an equal rate" in said
    assert all(len(row) == len(table.headers) for table in answer.tables for row in table.rows)
    shown = {
        cell
        for table in answer.tables
        for row in table.rows
        for header, cell in zip(table.headers[1:], row[1:], strict=True)
        if header != "seeds"
    }
    assert shown == {"–"}


def test_the_law_is_met_exactly_or_the_answer_says_by_how_much_not() -> None:
    law = {"active_units": LINEAR, "law_active_units": LINEAR}
    met = text(collapse.answer, Known(law))
    assert "exactly the number of active latents that the law gives" in met
    off = text(collapse.answer, Known(law | {"law_active_units": LINEAR | {"sigma=2.5": 3.0}}))
    assert "off by up to 3" in off
    gaps = text(collapse.answer, Known(law | {"law_gap": {"sigma=0.3": 0.31, "": 0.02}}))
    assert "come within 0.31 nats of the law's optimum" in gaps


def test_the_middle_settings_of_the_law_share_their_threshold() -> None:
    products = [beta * sigma**2 for sigma, beta in collapse.SETTINGS]
    assert products[1] == pytest.approx(products[2])
    assert sorted(products) == products
    same = {"active_units": LINEAR, "law_active_units": LINEAR}
    assert "have the same number of active latents" in text(collapse.answer, Known(same))
    other = {"active_units": LINEAR | {"sigma=0.7": 7.0}, "law_active_units": LINEAR}
    assert "have different numbers of active latents" in text(collapse.answer, Known(other))


def test_beta_and_sigma_are_one_setting_only_if_their_rates_agree() -> None:
    same = {"rate": {"": 5.0}, "rmse_mean": {"": 0.2}, "sigma": {"": 0.2}}
    assert "β is another name for the variance: " in text(beta_and_sigma.answer, Known(same))
    other = same | {"rate": {"beta=0.01": 5.1, "": 5.0}}  # with errors of 0.001
    said = text(beta_and_sigma.answer, Known(other))
    assert "and here it is not: " in said
    assert "differ by at most 0.1 nats" in said


def test_a_measure_at_an_equal_rate_is_on_the_line_between_its_neighbours() -> None:
    curve = [(4.0, 1.0), (0.0, 3.0), (2.0, 2.0)]
    assert facilitates.at_rate(curve, 3.0) == pytest.approx(1.5)
    assert facilitates.at_rate(curve, 2.0) == pytest.approx(2.0)
    assert facilitates.at_rate(curve, 4.1) is None
    numbers = {"rate": {"sigma=": 5.0, "": 50.0}, "rmse_mean": {"": 0.2}}
    assert "outside of those of the fixed σ" in text(facilitates.answer, Known(numbers))


def test_for_how_many_ways_to_learn_sigma_the_view_of_the_report_holds() -> None:
    rates = {"sigma=0.1": 9.0, "sigma=0.2": 7.0, "sigma=0.3": 5.0, "": 6.0}
    fixed = {"mean-only": 0.2, "weighting": 0.1}
    one = {"rate": rates, "rmse_mean": fixed | {"": 0.3}, "digit_fid_mean": fixed | {"": 0.1}}
    (said,) = facilitates.answer(Known(one)).short
    assert "the 3 ways to learn σ that have a fixed σ at the same rate" in said
    assert "By the error of μ(z) it holds for 1 of them. " in said
    assert said.endswith("it holds for 3.")
    none = one | {"rmse_mean": {"mean-only": 0.2, "": 0.3}}
    (said,) = facilitates.answer(Known(none)).short
    assert "it holds for 0 of them: learning σ does not teach the mean better" in said


# What decides a sentence


def test_seeds_that_disagree_decide_nothing() -> None:
    assert sign([1.0, 2.0], []) == 1
    assert sign([-1.0, -2.0], []) == -1
    assert sign([1.0, -2.0], []) == 0
    assert sign([], []) is None


def test_a_single_seed_counts_beyond_twice_its_error() -> None:
    assert sign([1.0], [0.49]) == 1
    assert sign([-1.0], [0.49]) == -1
    assert sign([1.0], [0.51]) == 0
    few = Known({"elbo": {"unconditional": 1.002, "": 1.0}}, seeds=1)
    deep, linear = (few.of(Study(name)) for name in ("vae-unconditional", "bridge-vae"))
    assert compared(deep, "elbo", linear) == 0  # 0.002 with errors of 0.001 on each side
    assert compared(deep, "rate", linear) is None
    assert says(0, "above", "below", "level") == "level"


# The table


def test_every_file_of_questions_is_in_the_table_once() -> None:
    files = {path.stem for path in Path(questions.__file__).parent.glob("[!_]*.py")}
    named = [question.answer.__module__.rsplit(".", 1)[1] for question in QUESTIONS]
    assert sorted(named) == sorted(files)
    assert len({question.title for question in QUESTIONS}) == len(QUESTIONS) == 11
    for question in QUESTIONS:
        assert question.title.endswith("?")
        assert question.asked.startswith("Section 3.")
        assert question.theory.endswith(".")


def test_the_heavy_questions_are_left_out_of_quick_and_so_are_their_runs() -> None:
    heavy = [question for question in QUESTIONS if question.heavy]
    assert heavy
    assert [q for q in QUESTIONS if q not in heavy] == asked(quick=True)
    assert asked(quick=False) == list(QUESTIONS)
    assert covariance.LOWRANK in studies(quick=False)
    assert covariance.LOWRANK not in studies(quick=True)


@pytest.mark.parametrize("study", studies(quick=False), ids=lambda study: study.command(Size(), []))
def test_every_run_can_be_asked_for_and_every_command_is_that_of_a_sweep(study: Study) -> None:
    request = study.request(Size(), [])
    assert request.base.config.name == study.config.replace("/", "-")
    assert list(request.asked.plan.points(1))
    assert study.command(Size(), []).startswith(f"vaexp sweep {study.config} ")
    assert study.command(Size(), []).endswith(f"--seeds {study.seeds}")
    quick = study.command(Size.asked(True, None), ["seed=3"])
    assert " seed=3 " in quick
    assert quick.endswith("--seeds 1")
    of_vae = study.request(Size(), []).base.config.model.kind == "vae"
    assert ("train.epochs=10" in quick, "train.max_iter=10" in quick) == (of_vae, not of_vae)


def test_a_setting_with_a_space_stays_one_word_of_the_command() -> None:
    command = Study("gmm-diag").command(Size(seeds=1), ["data.labels=[4, 9]"])
    words = ["vaexp", "sweep", "gmm-diag", "data.labels=[4, 9]", "--seeds", "1"]
    assert shlex.split(command) == words


def test_medians_that_say_otherwise_than_means_are_said() -> None:
    done = Known({"elbo": {"unconditional": 2.0, "": 1.0}})
    deep, linear = (done.of(Study(name)) for name in ("vae-unconditional", "bridge-vae"))

    def said(median_of_deep: float) -> str:
        for runs, median in ((deep, median_of_deep), (linear, 1.0)):
            for entries in runs.entries:
                entries["elbo"]["median"] = median
        return in_mean_and_median(deep, "elbo", linear, "Higher.", "Lower.", "Alike.")

    assert said(1.5) == "Higher."
    assert said(0.5) == "By the mean over images, higher. By the median, lower."
    assert said(1.0) == "By the mean over images, higher. By the median, alike."


# The cells of the tables


def density(value: float, median: float, **facts: Any) -> dict[str, Any]:
    return {"measure": "density", "value": value, "se": 2.0, "median": median} | facts


def test_the_median_stands_beside_a_mean_from_which_it_is_further_than_the_error() -> None:
    assert for_table([density(100.0, 101.9)]) == "100.0 ± 2.0"
    assert for_table([density(100.0, 102.1)]) == "100.0 ± 2.0 (median 102.1)"
    assert for_table([density(1.0, -0.5)]) == "1.0 ± 2.0 (median -0.5)"  # their signs differ
    assert for_sentence([density(100.0, 150.0)]) == "100.0 ± 2.0"
    whole = {"value": 3.0, "se": 0.1}  # no number of single images
    assert for_table([whole]) == "3.00 ± 0.10"
    assert for_table([]) == "–"


def test_over_seeds_the_error_over_images_decides_and_medians_are_averaged() -> None:
    far = [density(90.0, 130.0), density(110.0, 150.0)]
    assert for_table(far) == "100 ± 14 (median 140)"
    assert for_table([density(90.0, 91.0), density(110.0, 111.0)]) == "100 ± 14"
    assert for_table([far[0], density(110.0, 150.0) | {"median": None}]) == "100 ± 14"


def test_a_floor_of_variances_is_said_as_one_of_sigma_with_the_value_of_the_config() -> None:
    assert for_table([density(1.0, 1.0, covariance_floor=0.001)]).endswith(
        " [σ ≥ 0.032, σ² ≥ 0.001]"
    )
    assert for_table([density(1.0, 1.0, sigma_floor=0.001)]).endswith(" [σ ≥ 0.001]")


def test_a_floor_that_names_a_row_is_not_said_again_in_its_cells() -> None:
    runs = Repeated(())
    runs.__dict__["entries"] = [{"elbo": density(1.0, 1.0, covariance_floor=0.01)}]
    table = by_runs("", "", {"σ ≥ 0.1, σ² ≥ 0.01": runs, "a mixture": runs}, ["elbo"])
    assert [row[1] for row in table.rows] == ["1.0 ± 2.0", "1.0 ± 2.0 [σ ≥ 0.1, σ² ≥ 0.01]"]


def test_what_is_exact_for_the_training_images_has_no_error_of_a_single_run() -> None:
    gap = {"value": 0.08, "se": 0.23, "kind": "exact", "split": "train"}
    assert for_table([gap]) == for_sentence([gap]) == "0.08"
    assert for_table([gap, gap | {"value": 0.04}]) == "0.060 ± 0.028"  # of seeds
    assert for_table([gap | {"split": "test"}]) == "0.08 ± 0.23"
    assert for_table([gap | {"kind": "estimate"}]) == "0.08 ± 0.23"


def test_an_override_goes_to_the_models_that_have_its_key() -> None:
    """Mixtures have no epochs and VAEs no iterations, and yet one call trains both."""
    changes = ["train.epochs=3", "train.max_iter=4"]
    mixture = Study("gmm-diag").request(Size(), changes).base.config
    vae = Study("vae-unconditional").request(Size.asked(True, None), []).base.config
    assert mixture.model_dump()["train"]["max_iter"] == 4
    assert vae.model_dump()["train"]["epochs"] == 10
    assert "train.max_iter=10" in QUICK


def test_the_findings_give_theory_and_the_command_beside_the_answer() -> None:
    question = sampling.QUESTION
    asked = Asked(question, question.answer(Known({})), question.again(Size(), [], Known({})))
    made = findings([asked], [])
    assert f"What theory says: {question.theory}" in made
    assert "These runs again: `vaexp sweep report/mean-only --grid model.beta=1 " in made
    assert "; vaexp evaluate RUN --only quality,decoding,optimal_mean,parzen`" in made
