"""The figure of the group ``prior``."""

from matplotlib.figure import Figure

from vaexp.figures.charts import number, percent
from vaexp.figures.evidence.about import About, Arrays, Entries
from vaexp.figures.prior import prior_and_codes


def draw(arrays: Arrays, entries: Entries, about: About) -> Figure:
    """Where both kinds of draws fall; the note says what the mixture gains."""
    prior, mixture = (entries[f"outside_{source}"]["value"] for source in ("prior", "mixture"))
    gain = entries["elbo_gain_mixture"]
    sources = ("prior", "mixture")
    shaped = about.pictures(arrays, *(f"image_{source}" for source in sources))
    images = {source: shaped[f"image_{source}"] for source in sources}
    where = "that lie left of the line" if prior > 0 else "of which none lies left of the line"
    note = (
        f"Left of the line lie {percent(prior)} of z ~ p(z) and {percent(mixture)} of z ~ mixture, "
        f"which EM has fitted to the codes, with {gain['components']} components in all. With it "
        f"in place of p(z) the ELBO would be {number(abs(gain['value']))} nats "
        f"{'larger' if gain['value'] >= 0 else 'smaller'}."
    )
    return prior_and_codes(
        {source: arrays[f"margin_{source}"] for source in ("codes", "prior", "mixture")},
        images,
        {
            "prior": f"μ(z) of z ~ p(z) {where}",
            "mixture": "μ(z) of z ~ mixture of the codes",
        },
        about.settings,
        note,
    )
