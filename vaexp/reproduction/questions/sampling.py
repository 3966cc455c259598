"""What is the process that outputs mu(z)? Means and draws of the same models, beside the data."""

from collections.abc import Mapping
from dataclasses import replace
from statistics import mean

from vaexp.reproduction.answers import Answer, Question, by_runs, compared, says
from vaexp.reproduction.pictures import BestMeans, Panel, Picture, Points
from vaexp.reproduction.questions.learned_sigma import MODES, STRIPS
from vaexp.reproduction.studies import Done, Repeated
from vaexp.tables import Table

GROUPS = ("decoding", "optimal_mean")
WINDOWED = ("one σ(z) per image", "one σ(z) per pixel")
"""The models whose images a Parzen window scores, which takes long."""
STUDIES = {
    name: replace(study, groups=(*study.groups, *GROUPS, *["parzen"] * (name in WINDOWED)))
    for name, study in MODES.items()
}
PARTS = ("variance_of_mean", "mean_of_variance", "variance_total", "variance_data")
EACH = {
    "neighbour_correlation": "data",
    "covariance_distance": "control",
    "digit_fid": "control",
    "two_sample_accuracy": "control",
    "coverage_real": "control",
}
"""What is measured of each set of images, and how its name ends for real ones."""
WAYS = {"mean": "means μ(z)", "sample": "draws of p(x|z)"}
"""How the names of measures end for each set of images, and what pictures call it."""
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
    "images_averaged_codes",
    "images_averaged_prior",
)


def _average(name: str, runs: Repeated) -> str:
    """How near the learned mean is to the average of training images that no mean can better."""
    start = (
        f"With {name}, the best μ(z) that this encoder allows is an average of training images, of "
        f"about {runs['images_averaged_codes']} at the code of an image. There the learned μ(z) "
        f"differs from it by {runs['optimal_mean_gap_codes']} per pixel, and by "
        f"{runs['optimal_mean_gap_prior']} at z ~ p(z), "
    )
    shares = runs.values("optimal_mean_gap_prior", "share_outside")
    inside = runs.values("optimal_mean_gap_prior", "inside")
    where = (
        f" A share of {mean(shares):.2g} of z ~ p(z) lies outside of the region with 99 % of the "
        f"codes, and at those inside the two differ by {mean(inside):.2g}."
        if shares and inside
        else ""
    )
    return (
        says(
            compared(runs, "optimal_mean_gap_prior", None, "optimal_mean_gap_codes"),
            start + "which is more.",
            start + "which is less.",
            start + "which is as much.",
        )
        + where
    )


def _sentences(name: str, runs: Repeated) -> list[str]:
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
            "But a tenth as many averages of real images score more than real images, "
            f"{runs['parzen_centroids']} against {runs['parzen_train']}, and no draws can be "
            "better than real images. So this score rewards averages, and does not measure how "
            "real images are.",
            "A tenth as many averages of real images score less than real images.",
            "A tenth as many averages of real images score no more than real images.",
        )
    )


def _short(rows: Mapping[str, Repeated]) -> list[str]:
    """What the process of popular code is, whose sigma is 1, and whether it reaches the goal."""
    name, first = next(iter(rows.items()))
    best = (
        f"With {name}, the best μ(z) (that with the least squared error on training images, given "
        f"the encoder) is a weighted average of about {first['images_averaged_prior']} of them at "
        "z ~ p(z). The learned μ(z) differs from it by "
        f"{first['optimal_mean_gap_prior']} per pixel, and images differ from such averages by "
        f"{first['rmse_optimal_mean']}."
    )
    process = says(
        compared(first, "optimal_mean_gap_prior", None, "rmse_optimal_mean"),
        f"{best} So the two are far apart, and what the process draws is no such average.",
        f"{best} So the two are close, and the process draws blends of real images.",
        f"{best} So the learned one is as far from it as images are.",
    )
    goal = says(
        compared(first, "two_sample_accuracy_mean", None, "two_sample_accuracy_control"),
        "The original goal, to draw from the distribution of the images, is not reached: a "
        "classifier tells μ(z) from real images more often than two sets of real images from each "
        f"other, {first['two_sample_accuracy_mean']} against "
        f"{first['two_sample_accuracy_control']}.",
        "A classifier tells μ(z) from real images less often than two sets of real images from "
        "each other.",
        "A classifier does not surely tell μ(z) from real images, so the original goal may be "
        "reached.",
    )
    return [process, goal]


def _looks(rows: Mapping[str, Repeated]) -> list[str]:
    """For how many of the models images mu(z) are nearer to real ones than draws are."""
    nearer = [compared(runs, "digit_fid_mean", None, "digit_fid_sample") for runs in rows.values()]
    covers = [
        compared(runs, "coverage_real_mean", None, "coverage_real_sample") for runs in rows.values()
    ]
    told = [
        compared(runs, f"two_sample_accuracy_{way}", None, "two_sample_accuracy_control")
        for runs in rows.values()
        for way in WAYS
    ]
    of = f"of the {len(rows)} kinds of σ"
    return [
        says(
            None if None in nearer else 1,
            "The report's conjecture that images μ(z) look better than draws holds for "
            f"{nearer.count(-1)} {of} by digit_fid, their distance from real images. By "
            "coverage_real, the share of real images that have one of them near, it holds for "
            f"{covers.count(1)} {of}.",
            "",
            "",
        ),
        says(
            None if None in told else int(set(told) == {1}),
            "A classifier tells means and draws of every kind from real images more often than two "
            "sets of real images from each other, so none of them is drawn from the distribution "
            "of the data.",
            "",
            "A classifier does not surely tell all kinds of means and draws from real images.",
        ),
    ]


def _pictures(rows: Mapping[str, Repeated], windowed: Mapping[str, Repeated]) -> list[Picture]:
    """What mu(z) draws beside the best it could, and what tells means and draws from images."""
    real = next(iter(windowed.values()))
    return [
        BestMeans("What μ(z) could draw at best, and what it draws", rows),
        Points(
            "The score of test images by a Parzen window around other images",
            windowed,
            [
                Panel(
                    "parzen",
                    {label: f"parzen_{way}" for way, label in WAYS.items()},
                    {
                        "training images": (real, "parzen_train"),
                        "a tenth as many averages": (real, "parzen_centroids"),
                    },
                )
            ],
        ),
        Points(
            "How far means and draws are from real images, and how smooth",
            rows,
            [
                Panel(
                    measure,
                    {label: f"{measure}_{way}" for way, label in WAYS.items()},
                    {"other real images": (real, f"{measure}_{EACH[measure]}")},
                )
                for measure in ("neighbour_correlation", "digit_fid")
            ],
        ),
    ]


def answer(done: Done) -> Answer:
    """What mu(z) leaves out, and which of mean and draw is nearer to the data."""
    rows = {name: done.of(study) for name, study in STUDIES.items()}
    details = _looks(rows)
    details += [sentence for pair in rows.items() for sentence in _sentences(*pair)]
    windowed = {name: rows[name] for name in WINDOWED}
    real = next(iter(windowed.values()))
    details.append(_window(*next(iter(windowed.items()))))
    each = [
        [f"{name}, {way}", *(runs.cell(f"{measure}_{way}") for measure in EACH)]
        for name, runs in rows.items()
        for way in WAYS
    ]
    each.append(
        ["other real images", *(real.cell(f"{measure}_{end}") for measure, end in EACH.items())]
    )
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
            Table("Means, draws and other real images", ["what", *EACH], each),
            by_runs("The score of a Parzen window around images, nats", "σ", windowed, WINDOWS),
        ],
        _pictures(rows, windowed),
        also=[STRIPS],
    )


QUESTION = Question(
    "What is the process that outputs μ(z)?",
    "Section 3.4: what is this new generative process? Did we achieve our original goal now that "
    "we went back to a fully deterministic model?",
    tuple(STUDIES.values()),
    answer,
    "By the law of total variance Var x = E σ²(z) + Var μ(z), and μ(z) has the second part only. "
    "It is a distribution on a surface of L dimensions, the limit of the model as σ goes to 0, and "
    "has no density in x. So it is random in z, but it has no likelihood that training could "
    "have raised. Given the encoder, the squared error is least for the average of all training "
    "images, weighted by q(z|x). With a fixed σ that is what is minimised, so μ(z) draws blends of "
    "real images; with a learned one errors are weighted by 1/σ²(z).",
)
"""The question with its runs."""
