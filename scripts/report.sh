#!/bin/sh
# The runs of `vaexp reproduce` as plain sweeps: sh scripts/report.sh [DIR]. Each line can be given
# to another machine. Afterwards `vaexp reproduce` finds the runs in reproduction/runs, or in DIR
# with --runs-dir DIR, and only has to draw.
set -eu
runs=${1:-reproduction/runs}

study() { # CONFIG, then what is varied of it
    config=$1
    shift
    vaexp sweep "report/$config" "$@" --seeds 5 --folder "$runs/report-$config"
}

# the figures
study sigma-per-image
study sigma-per-pixel
study mean-only
study beta-small --grid model.latent_dim=5,2
study beta-medium
study beta-large
study sigma-small
study sigma-smaller

# is a model with fixed sigma more useful?
study mean-only --grid model.beta=1
study sigma-per-image --grid model.beta=1
study sigma-per-pixel --grid model.beta=1

# which distribution does beta optimise?
study mean-only --zip model.sigma=1,0.1,1,0.3 --zip model.beta=0.01,1,0.09,1
study sigma-per-image --grid model.beta=0.25,1,4
