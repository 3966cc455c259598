"""What are the codes good for? Recognition, grouping and storage, beside principal components."""

from collections.abc import Mapping

from vaexp.reproduction.answers import Answer, Question, Sign, by_runs, compared, says
from vaexp.reproduction.pictures import Panel, Points
from vaexp.reproduction.questions.networks import MODELS
from vaexp.reproduction.studies import Done, Repeated

SHOWN = (
    "linear_probe_accuracy",
    "linear_probe_accuracy_pca",
    "knn_accuracy",
    "knn_accuracy_pca",
    "nmi",
    "cluster_accuracy",
    "rmse_code",
    "rmse_pca",
    "rate_bits",
)
LINE = "pPCA"
"""The model that the picture holds the others against."""
PICTURED = {
    "linear_probe_accuracy": ("PCA", "linear_probe_accuracy_pca"),
    "knn_accuracy": ("PCA", "knn_accuracy_pca"),
    "rmse_code": ("PCA", "rmse_pca"),
    "nmi": (LINE, "nmi"),
    "cluster_accuracy": (LINE, "cluster_accuracy"),
    "rate_bits": (LINE, "rate_bits"),
}
"""What the picture shows, and the name and the measure of the line that it is held against."""


def _stored(deep: Repeated, ppca: Repeated, storage: Sign) -> str:
    """With which error and at which rate the deep VAE rebuilds images, beside pPCA."""
    return (
        "For storage: "
        + says(
            storage,
            "the deep VAE rebuilds images with a smaller error than as many principal components",
            "the deep VAE rebuilds images with a larger error than as many principal components",
            "the deep VAE rebuilds images with the same error as so many principal components",
        ).rstrip(".")
        + f", {deep['rmse_code']} against {deep['rmse_pca']}. The rates differ as well: "
        f"{deep['rate_bits']} bits per image, where pPCA has {ppca['rate_bits']}."
    )


def _picture(rows: Mapping[str, Repeated]) -> Points:
    """What the codes are good for, held against principal components."""
    return Points(
        "What the codes of test images tell, beside principal components",
        {name: runs for name, runs in rows.items() if name != LINE},
        [
            Panel(measure, {"": measure}, {label: (rows[LINE], control)})
            for measure, (label, control) in PICTURED.items()
        ],
    )


def answer(done: Done) -> Answer:
    """Whether the codes of the deep VAE beat principal components in each use."""
    rows = {name: done.of(study) for name, study in MODELS.items()}
    deep, linear = rows["deep VAE"], rows["linear VAE"]
    better = {
        "recognition": compared(deep, "linear_probe_accuracy", None, "linear_probe_accuracy_pca"),
        "neighbours": compared(deep, "knn_accuracy", None, "knn_accuracy_pca"),
        "grouping": compared(deep, "cluster_accuracy", linear),
    }
    storage = compared(deep, "rmse_pca", None, "rmse_code")
    details = [
        "For supervised learning: "
        + says(
            better["recognition"],
            "a linear rule reads the digit better from the deep VAE's code than from as many "
            "principal components",
            "a linear rule reads the digit worse from the deep VAE's code than from as many "
            "principal components",
            "a linear rule reads the digit no better from the deep VAE's code than from as many "
            "principal components",
        ).rstrip(".")
        + f", {deep['linear_probe_accuracy']} against {deep['linear_probe_accuracy_pca']} of the "
        "test images. "
        + says(
            better["neighbours"],
            "Nearest neighbours read it better.",
            "Nearest neighbours read it worse.",
            "Nearest neighbours read it no better.",
        ),
        "For grouping: "
        + says(
            better["grouping"],
            "ten clusters of the deep VAE's codes agree better with the digits than those of the "
            "linear VAE's",
            "ten clusters of the deep VAE's codes agree worse with the digits than those of the "
            "linear VAE's",
            "ten clusters of the deep VAE's codes agree no better with the digits than those of "
            "the linear VAE's",
        ).rstrip(".")
        + f", {deep['cluster_accuracy']} against {linear['cluster_accuracy']}.",
        _stored(deep, rows["pPCA"], storage),
    ]
    wins = list(better.values()).count(1)
    short = (
        f"For recognition and grouping the deep VAE's codes are better than a linear method in "
        f"{wins} of the {len(better)} comparisons. "
        + says(
            storage,
            "For storage their error is smaller, but not at an equal number of bits.",
            "For storage their error is larger.",
            "For storage their error is the same.",
        )
    )
    table = by_runs("The codes of test images", "model", rows, SHOWN)
    return Answer([short], details, [table], [_picture(rows)])


QUESTION = Question(
    "What are the codes good for?",
    "Section 3.2.1: dimensionality reduction is useful for storage; the representation can be used "
    "to group observations that are alike; and it is common to apply supervised learning to it.",
    tuple(MODELS.values()),
    answer,
    "No affine map to L numbers and back has a smaller squared error on the training images than "
    "principal components. A code of real numbers has no size in bits; the rate is what q(z|x) "
    "costs with bits-back coding (Hinton and van Camp 1993). nmi and cluster_accuracy rise with "
    "the number of clusters by themselves: a mixture has one for each of its 50 components, and "
    "the codes of the others are put into ten.",
)
"""The question with its runs."""
