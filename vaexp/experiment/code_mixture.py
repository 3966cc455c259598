"""The mixture of the codes of a run, to draw z from."""

from typing import assert_never

import torch

from vaexp.errors import UserError
from vaexp.evaluation.aggregate import Aggregate
from vaexp.evaluation.code_mixture import CodeMixture
from vaexp.experiment.prepare import Experiment
from vaexp.models import GMM, VAE, LinearGaussian
from vaexp.progress import Reporter
from vaexp.runs.folder import RunFolder
from vaexp.runs.trained import load_weights


@torch.no_grad()
def mixture_of_run(run: RunFolder, digits: list[int]) -> CodeMixture:
    """Encode the training images of a run, and fit the mixture to the codes.

    ``digits`` are those that a conditional model is to draw. Raises UserError for a mixture, whose
    z is no vector, and if there are no codes of a digit, and RunError if the data are other ones
    now.
    """
    experiment = Experiment.prepare(run.config(), run)
    load_weights(experiment.model, run, experiment.device)
    match experiment.model.eval().requires_grad_(False):
        case VAE() | LinearGaussian() as model:
            aggregate = Aggregate(model, experiment.training_blocks)
        case GMM():
            raise UserError("--prior: z of a mixture is the index of a component; leave it out")
        case _:
            assert_never(experiment.model)
    if not aggregate.knows(torch.tensor(digits)):
        missing = [one for one in digits if one not in aggregate.images]
        raise UserError(
            f"--prior gmm: no training image of this run is a {' or a '.join(map(str, missing))}, "
            "so there are no codes of it; choose another --label"
        )
    with Reporter().waiting("fitting a mixture to the codes"):
        return CodeMixture(aggregate, digits)
