"""What do networks add? From pPCA over a linear VAE to a deep one at the same number of latents."""

from vaexp.reproduction.answers import Answer, Question, by_runs, compared, says
from vaexp.reproduction.pictures import Panel, Points, Strips
from vaexp.reproduction.studies import FEW_SEEDS, QUALITY, Done, Study

GROUPS = (*QUALITY, "codes")
MIXTURE = "mixture of 50 spherical Gaussians"
MODELS = {
    "pPCA": Study("bridge-ppca", groups=GROUPS, seeds=1),  # its maximum does not depend on a seed
    "factor analysis": Study("fa", grid=("model.latent_dim=10",), groups=GROUPS, seeds=1),
    MIXTURE: Study(
        "gmm-diag",
        grid=("model.components=50", "model.covariance=spherical"),
        groups=GROUPS,
        seeds=FEW_SEEDS,
    ),
    "linear VAE": Study("bridge-vae", groups=GROUPS, seeds=FEW_SEEDS),
    "deep VAE": Study("vae-unconditional", groups=GROUPS, seeds=FEW_SEEDS),
}
SHOWN = ("log_prob", "elbo", "rate", "rmse_mean", "rmse_sample", "digit_fid_mean", "active_units")


def answer(done: Done) -> Answer:
    """Whether the deep VAE has a higher bound, a smaller error and better images."""
    rows = {name: done.of(study) for name, study in MODELS.items()}
    ppca, linear, deep = rows["pPCA"], rows["linear VAE"], rows["deep VAE"]
    bound, *details, verdict = [
        says(
            compared(deep, "elbo", ppca, "log_prob"),
            f"The deep VAE has a bound of {deep['elbo']} nats on ln p(x), above the "
            f"{ppca['log_prob']} nats that are pPCA's ln p(x) itself: among models with one σ for "
            "all pixels this is what networks add.",
            f"The bound of the deep VAE, {deep['elbo']} nats, lies below pPCA's ln p(x), "
            f"{ppca['log_prob']} nats.",
            f"The bound of the deep VAE, {deep['elbo']} nats, is not surely above pPCA's ln p(x), "
            f"{ppca['log_prob']} nats.",
        ),
        says(
            compared(linear, "log_prob", ppca),
            "The linear VAE has a higher ln p(x) than pPCA on test images.",
            "The linear VAE, which is pPCA trained by gradients, comes near its ln p(x) and stays "
            f"below: {linear['log_prob']} nats.",
            "The linear VAE, which is pPCA trained by gradients, has an ln p(x) that does not "
            f"surely differ: {linear['log_prob']} nats.",
        ),
        says(
            compared(deep, "rmse_mean", linear),
            "The deep VAE rebuilds images worse than the linear one, with as many latents.",
            "The deep VAE also rebuilds images better than the linear one, with as many latents.",
            "The deep VAE rebuilds images no better than the linear one, with as many latents.",
        )
        + " "
        + says(
            compared(deep, "digit_fid_mean", linear),
            "Its images μ(z), z ~ p(z), lie further from real ones.",
            "Its images μ(z), z ~ p(z), lie nearer to real ones.",
            "Its images μ(z), z ~ p(z), lie no nearer to real ones.",
        ),
        says(
            compared(deep, "digit_fid_mean", rows[MIXTURE]),
            "By digit FID the means of a mixture lie nearer to real images than those of the deep "
            f"VAE, {rows[MIXTURE]['digit_fid_mean']} against {deep['digit_fid_mean']}, though they "
            "are only 50 images.",
            "By digit FID the means of the deep VAE lie nearer to real images than those of a "
            "mixture.",
            "The means of the deep VAE lie as near to real images as those of a mixture.",
        ),
    ]
    title = "Models that are not given the label, ten latents or 50 components"
    pictures = (
        Strips("Means μ(z) of draws z ~ p(z)", rows, ["mean"]),
        Points(
            "The bound, the rate, the errors and the images of each model, beside pPCA",
            {name: runs for name, runs in rows.items() if runs is not ppca},
            [
                Panel(measure, {"": measure}, {"pPCA": (ppca, measure)})
                for measure in ("elbo", "rate", "rmse_mean", "digit_fid_mean")
            ],
        ),
    )
    return Answer([bound, verdict], details, [by_runs(title, "model", rows, SHOWN)], pictures)


QUESTION = Question(
    "What do networks add to a linear function?",
    "Section 3.5: networks are universal approximators; they seem like an appropriate choice and "
    "we do not see any implementation problems.",
    tuple(MODELS.values()),
    answer,
    "pPCA, the linear VAE and the deep one have one σ for all pixels, so their densities compare; "
    "each is a special case of the next, and no linear-Gaussian model has a higher ln p(x) of the "
    "training images than pPCA. Factor analysis and mixtures have variances of their own, "
    "with a floor: pixels that are nearly always black raise their densities, whatever their "
    "errors are.",
)
"""The question with its runs."""
