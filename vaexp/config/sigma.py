"""What sigma can be: how many numbers it is, whether they are learned and whether z moves them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class SigmaMode:
    """One way to give p(x|z) its standard deviations. A likelihood builds its head from this."""

    caption: str
    """What a title says, with {sigma}, {floor} and {factors} filled in."""
    learned: bool
    """Whether training moves it. If not, it is the config's number."""
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
"""Name in a config -> what it means. A mode of a shape that is there already is one entry more."""
