"""The questions that the report leaves open. Each is a file here, and one line in this table."""

from vaexp.reproduction.questions import (
    beta_and_sigma,
    codes,
    collapse,
    covariance,
    facilitates,
    learned_sigma,
    networks,
    outside,
    prior_draws,
    sampling,
    singularities,
)

QUESTIONS = (
    learned_sigma.QUESTION,
    beta_and_sigma.QUESTION,
    sampling.QUESTION,
    covariance.QUESTION,
    outside.QUESTION,
    collapse.QUESTION,
    singularities.QUESTION,
    facilitates.QUESTION,
    prior_draws.QUESTION,
    networks.QUESTION,
    codes.QUESTION,
)
