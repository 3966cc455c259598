"""Information criteria: the fit to the training images, with a price for each free parameter."""

import math

from torch import Tensor

from vaexp.evaluation.measure import Estimate
from vaexp.models import GMM, LinearGaussian


def information_criteria(model: GMM | LinearGaussian, log_prob: Tensor) -> dict[str, Estimate]:
    """AIC and BIC from ln p(x) of all training images (N,), in nats; smaller is better.

    AIC = 2 p - 2 sum ln p(x_n) (Akaike 1974) and BIC = p ln N - 2 sum ln p(x_n) (Schwarz 1978),
    where p is the number of free parameters: the convention of scikit-learn. Both are sums over
    images, and not means. They are exact numbers of the fitted parameters. As estimates of what
    they were derived for, they need the maximum of the likelihood, of which EM finds a local one,
    and a floor that binds no parameter.
    """
    n, p = len(log_prob), model.free_parameters
    fit = -2 * log_prob.double().sum().item()
    prices = {"aic": 2.0 * p, "bic": p * math.log(n)}
    return {
        name: Estimate(
            fit + price, "nats", n, kind="exact", likelihood="derived", facts={"parameters": p}
        )
        for name, price in prices.items()
    }
