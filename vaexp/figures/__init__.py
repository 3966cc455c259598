"""Figures: functions from numpy arrays to matplotlib figures, without models, torch or files.

Every figure says by itself what it shows. It has a title, a subtitle with the settings that matter,
which the caller gives, axes with names and units, and a note at the foot where reading needs one.
"""

from vaexp.figures.curves import training_curves
from vaexp.figures.decoding import decoder_moments
from vaexp.figures.em import em_staircase
from vaexp.figures.floor import near_the_floor
from vaexp.figures.images import compare_runs, decode_modes, reconstructions, samples
from vaexp.figures.induced import tilted_prior
from vaexp.figures.latent import latent_plane, posterior
from vaexp.figures.latent_use import latent_use
from vaexp.figures.linear import factors, noise, principal_axes, scaled_spectrum, spectrum
from vaexp.figures.mixture import clusters, components, confusion
from vaexp.figures.quality import sample_quality
from vaexp.figures.rate_distortion import rate_distortion
from vaexp.figures.singularities import singularities
from vaexp.figures.style import save

__all__ = [
    "clusters",
    "compare_runs",
    "components",
    "confusion",
    "decode_modes",
    "decoder_moments",
    "em_staircase",
    "factors",
    "latent_plane",
    "latent_use",
    "near_the_floor",
    "noise",
    "posterior",
    "principal_axes",
    "rate_distortion",
    "reconstructions",
    "sample_quality",
    "samples",
    "save",
    "scaled_spectrum",
    "singularities",
    "spectrum",
    "tilted_prior",
    "training_curves",
]
