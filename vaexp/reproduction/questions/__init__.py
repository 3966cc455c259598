"""The questions that the report leaves open. Each is a file here, and one line in this table."""

from vaexp.reproduction.questions import beta_and_sigma, learned_sigma

QUESTIONS = (
    learned_sigma.QUESTION,
    beta_and_sigma.QUESTION,
)
