"""The modes of sigma: how many numbers it is, and whether they are learned and depend on z."""

from dataclasses import dataclass


@dataclass(frozen=True)
class SigmaMode:
    """One way to give p(x|z) its standard deviations. A likelihood builds its head from this."""

    caption: str
    """The words for it in a title, where {sigma}, {floor} and {factors} are filled in."""
    learned: bool
    """Whether it is learned. If not, it is the number in the config."""
    of_z: bool
    """Whether it is a function sigma(z)."""
    per_pixel: bool
    """Whether every pixel has its own. If not, one number serves all pixels."""
    factors: bool = False
    """Whether factors V(z), which all pixels share, stand beside it: covariance
    diag sigma^2(z) + V(z) V(z)^T."""


SIGMA_MODES: dict[str, SigmaMode] = {
    "fixed": SigmaMode("σ fixed at {sigma:g}", learned=False, of_z=False, per_pixel=False),
    "global": SigmaMode("one learned σ (≥ {floor:g})", learned=True, of_z=False, per_pixel=False),
    "shared": SigmaMode("σ(z) per image (≥ {floor:g})", learned=True, of_z=True, per_pixel=False),
    "pixel": SigmaMode("σ(z) per pixel (≥ {floor:g})", learned=True, of_z=True, per_pixel=True),
    "lowrank": SigmaMode(
        "σ(z) per pixel (≥ {floor:g}) and {factors} shared factors",
        learned=True,
        of_z=True,
        per_pixel=True,
        factors=True,
    ),
}
"""The modes by their names in a config. A mode of a shape that exists is one more entry here."""
