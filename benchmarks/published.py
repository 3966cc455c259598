"""The log posterior predictive likelihood of a run, as Stirn and Knowles (2020) report it.

    python benchmarks/published.py RUN

LPPL is ln of the mean over 20 draws z ~ q(z|x) of p(x|z): how likely images are by their codes. It
has no KL term, so that it is no bound on ln p(x), and is at least -distortion (Jensen).
"""

import math
import sys
from pathlib import Path

import torch

from vaexp.evaluation.blocks import blocks
from vaexp.evaluation.statistics import standard_error
from vaexp.experiment.prepare import Experiment
from vaexp.runs.folder import RunFolder
from vaexp.runs.trained import load_weights
from vaexp.seeding import seeded
from vaexp.shown import show_number

DRAWS = 20


@torch.no_grad()
def main() -> None:
    run = RunFolder(Path(sys.argv[1]))
    experiment = Experiment.prepare(run.config(), run)
    load_weights(experiment.model, run, experiment.device)
    model, test = experiment.model, experiment.data.test
    x = experiment.held_out_images(test, "test")
    values = []
    with seeded(1, "posterior predictive"):
        for images, label in blocks(x, test.label.to(experiment.device)):
            given = label if model.conditional else None
            z = model.encode(images, given).sample(torch.Size([DRAWS]))
            log_prob = model.decode(z, given).log_prob(images).double()
            values.append(log_prob.logsumexp(0) - math.log(DRAWS))
    lppl = torch.cat(values)
    print(f"LPPL {show_number(lppl.mean().item(), standard_error(lppl))} nats per test image")


if __name__ == "__main__":
    main()
