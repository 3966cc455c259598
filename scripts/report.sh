#!/bin/sh
# The runs of `vaexp reproduce` as plain sweeps: sh scripts/report.sh [DIR], with vaexp on the PATH.
# Machines that share a disk can share them: `vaexp sweep ... --print-commands` prints the trials of a
# sweep as commands, and no trial runs twice. Afterwards `vaexp reproduce` finds the runs in reproduction/runs, or in DIR
# with --runs-dir DIR, and only has to measure and draw.
set -eu
runs=${1:-reproduction/runs}

study() { # SEEDS, CONFIG, then what is varied of it
    seeds=$1
    config=$2
    shift 2
    vaexp sweep "$config" "$@" --seeds "$seeds" --folder "$runs/$(echo "$config" | tr / -)"
}

# the figures
study 5 report/sigma-per-image
study 5 report/sigma-per-pixel
study 5 report/mean-only
study 5 report/beta-small --grid model.latent_dim=5,2
study 5 report/beta-medium
study 5 report/beta-large
study 5 report/sigma-small
study 5 report/sigma-smaller

# is a model with fixed sigma more useful?
study 5 report/mean-only --grid model.beta=1
study 5 report/sigma-per-image --grid model.beta=1
study 5 report/sigma-per-pixel --grid model.beta=1

# which distribution does beta optimise?
study 5 report/mean-only --zip model.sigma=1,0.1,1,0.3 --zip model.beta=0.01,1,0.09,1
study 5 report/sigma-per-image --grid model.beta=0.25,1,4

# would a full covariance for p(x|z) fix the draws?
study 3 report/sigma-per-pixel --grid model.beta=1
study 2 report/sigma-per-pixel --grid model.beta=1 --grid model.sigma_mode=lowrank --grid model.factors=4,16
study 1 gmm-labels

# are values outside [0, 1] the reason for bad draws?
study 3 vae-truncated
study 3 vae-logistic
study 3 vae-bernoulli --grid model.likelihood=continuous_bernoulli --grid data.transform=scale

# is posterior collapse the doing of sigma?
study 3 bridge-vae --grid model.sigma_mode=fixed --zip model.sigma=0.3,0.7,1.4,2.5 --zip model.beta=1,4,1,1

# are singularities the reason why fixing sigma helps?
study 3 report/sigma-per-pixel --grid model.beta=1 --grid model.sigma_floor=0.1,0.01,0.001
study 3 gmm-diag --grid model.components=50 --grid model.precision=float64 --grid model.covariance_floor=0.010000,0.000100,0.000001

# does sigma facilitate learning?
study 3 report/mean-only --grid model.beta=1 --grid model.sigma=0.1,0.2,0.3
study 3 report/sigma-per-image --grid model.beta=1
study 3 report/sigma-per-pixel --grid model.beta=0.04 --grid train.sigma_weighting=1

# what do networks add to a linear function?
study 1 bridge-ppca
study 1 fa --grid model.latent_dim=10
study 3 gmm-diag --grid model.components=50 --grid model.covariance=spherical
study 3 bridge-vae
study 3 vae-unconditional
