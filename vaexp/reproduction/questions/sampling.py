"""What is the process that outputs mu(z)? Means and draws of the same models, beside the data."""

from collections.abc import Mapping
from dataclasses import replace
from statistics import mean

from vaexp.reproduction.answers import Answer, Question, by_runs, compared, says
from vaexp.reproduction.pictures import Points, Strips
from vaexp.reproduction.questions.learned_sigma import MODES
from vaexp.reproduction.studies import Done, Repeated
from vaexp.tables import Table

LEARNED = {
    name: replace(study, groups=(*study.groups, "decoding", "parzen", "optimal_mean"))
    for name, study in list(MODES.items())[1:]
}
PARTS = ("variance_of_mean", "mean_of_variance", "variance_total", "variance_data")
EACH = (
    "neighbour_correlation",
    "covariance_distance",
    "digit_fid",
    "two_sample_accuracy",
    "coverage_real",
)
WAYS = ("mean", "sample", "control")
WINDOWS = ("parzen_train", "parzen_centroids", "parzen_mean", "parzen_sample")


def _lost(runs: Repeated) -> str:
    """The share of the model's variance that mu(z) leaves out, the mean over seeds."""
    parts, wholes = runs.values("mean_of_variance"), runs.values("variance_total")
    shares = [part / whole for part, whole in zip(parts, wholes, strict=True)]
    return f"{mean(shares):.0%}" if shares else "an unknown share"


BEST = (
    "optimal_mean_gap_codes",
    "optimal_mean_gap_prior",
    "rmse_optimal_mean",
    "rmse_mean",
    "images_averaged_codes",
    "images_averaged_prior",
)


def _average(name: str, runs: Repeated) -> str:
    """How near the learned mean is to the average of training images that no mean can better."""
    start = (
        f"With {name}, the best μ(z) that this encoder allows is an average of training images, of "
        f"about {runs['images_averaged_codes']} at the code of an image. The learned μ(z) differs "
        f"from it by {runs['optimal_mean_gap_codes']} per pixel there and by "
        f"{runs['optimal_mean_gap_prior']} at z ~ p(z), "
    )
    return says(
        compared(runs, "optimal_mean_gap_prior", None, "optimal_mean_gap_codes"),
        start + "which is more, as the decoder was hardly trained with such z.",
        start + "which is less.",
        start + "which is as much.",
    )


def _sentences(name: str, runs: Repeated) -> list[str]:
    told = [compared(runs, f"two_sample_accuracy_{way}", None, "two_sample_accuracy_control")
            for way in ("mean", "sample")]  # fmt: skip
    return [
        f"With {name}, μ(z) leaves out {_lost(runs)} of the variance that the model states. "
        + says(
            compared(runs, "neighbour_correlation_mean", None, "neighbour_correlation_data"),
            "Images μ(z) are smoother than real ones, as their neighbouring pixels are more alike.",
            "Images μ(z) are grainier than real ones.",
            "Images μ(z) are as smooth as real ones.",
        )
        + " "
        + says(
            compared(runs, "neighbour_correlation_sample", None, "neighbour_correlation_data"),
            "Draws of p(x|z) are smoother than real images.",
            "Draws of p(x|z) are grainier than real images.",
            "Draws of p(x|z) are as smooth as real images.",
        ),
        says(
            compared(runs, "digit_fid_mean", None, "digit_fid_sample"),
            "In the features of a digit classifier the draws lie nearer to real images than μ(z).",
            "In the features of a digit classifier μ(z) lies nearer to real images than draws do.",
            "In the features of a digit classifier neither lies nearer to real images.",
        )
        + " "
        + says(
            None if None in told else int(told == [1, 1]),
            "A classifier tells both from real images more often than two sets of real images "
            "from each other, so neither is drawn from the distribution of the data.",
            "",
            "A classifier does not surely tell both from real images.",
        ),
        _average(name, runs),
    ]


def _window(name: str, runs: Repeated) -> str:
    """What the score of early papers says of means and draws, and whether it can be believed."""
    return (
        says(
            compared(runs, "parzen_mean", None, "parzen_sample"),
            f"Early papers scored draws by a Parzen window. With {name} it gives μ(z) more nats "
            "than draws,",
            f"Early papers scored draws by a Parzen window. With {name} it gives μ(z) fewer nats "
            "than draws,",
            f"Early papers scored draws by a Parzen window. With {name} it gives μ(z) as many nats "
            "as draws,",
        ).rstrip(",.")
        + f", {runs['parzen_mean']} against {runs['parzen_sample']}. "
        + says(
            compared(runs, "parzen_centroids", None, "parzen_train"),
            "But averages of real images score more than ten times as many real images, which no "
            "model can outdo. So this score rewards averages and is no likelihood.",
            "Averages of real images score less than ten times as many real images.",
            "Averages of real images score no more than ten times as many real images.",
        )
    )


def _short(rows: Mapping[str, Repeated]) -> list[str]:
    """What the process is, and whether its images are nearer to real ones than draws are."""
    nearer = [compared(runs, "digit_fid_mean", None, "digit_fid_sample") for runs in rows.values()]
    name, first = next(iter(rows.items()))
    process = (
        f"The process draws averages of training images: with {name}, the best μ(z) at z ~ p(z) is "
        f"an average of about {first['images_averaged_prior']} of them, and the learned one "
        f"differs from it by {first['optimal_mean_gap_prior']} per pixel."
    )
    looks = says(
        None if None in nearer else int(set(nearer) == {-1}),
        "The report's conjecture that images μ(z) look better than draws holds in this "
        "measure, and they are images of another process than the model that was trained.",
        "",
        "The report's conjecture that images μ(z) look better than draws does not hold in "
        "this measure for both kinds of σ.",
    )
    return [process, looks]


def answer(done: Done) -> Answer:
    """What mu(z) leaves out, and which of mean and draw is nearer to the data."""
    rows = {name: done.of(study) for name, study in LEARNED.items()}
    details = [sentence for pair in rows.items() for sentence in _sentences(*pair)]
    details.append(_window(*next(iter(rows.items()))))
    each = [
        [f"{name}, {way}", *(runs[f"{measure}_{way}"] for measure in EACH)]
        for name, runs in rows.items()
        for way in WAYS
    ]
    return Answer(
        _short(rows),
        details,
        [
            by_runs("The model's variance and the data's, summed over pixels", "σ", rows, PARTS),
            by_runs(
                "The learned mean beside the best one, in units of x, and of how many images that "
                "is an average",
                "σ",
                rows,
                BEST,
            ),
            Table("Means, draws and other real images (control)", ["what", *EACH], each),
            by_runs("The score of a Parzen window around images, nats", "σ", rows, WINDOWS),
        ],
        [
            Strips("Means μ(z) and draws of p(x|z)", rows),
            Points("The score of a Parzen window around images", rows, WINDOWS),
            Points(
                "How far means and draws are from real images, and how smooth",
                rows,
                [
                    f"{measure}_{way}"
                    for measure in ("neighbour_correlation", "digit_fid")
                    for way in WAYS
                ],
            ),
        ],
    )


QUESTION = Question(
    "What is the process that outputs μ(z)?",
    "Section 3.4: what is this new generative process? Did we achieve our original goal now that "
    "we went back to a fully deterministic model?",
    tuple(LEARNED.values()),
    answer,
    "By the law of total variance Var x = E σ²(z) + Var μ(z), and μ(z) has the second part only. "
    "It is a distribution on a surface of L dimensions, the limit of the model as σ goes to 0, and "
    "has no density in x. So it is random in z, but it has no likelihood that training could "
    "have raised. Given the encoder, the squared error is least for the average of all training "
    "images, weighted by q(z|x): μ(z) draws blends of real images.",
)
"""The question with its runs."""
