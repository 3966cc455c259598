"""What other tools call the keys of a config, for the hint on an unknown key.

The names are those of scikit-learn's mixtures and decompositions, PyTorch, Lightning, Keras and
popular VAE code.
"""

OTHER_NAMES: dict[str, tuple[str, ...]] = {
    "seed": ("random_state", "manual_seed", "random_seed", "rng_seed"),
    "device": ("accelerator", "gpu", "cuda"),
    "data": ("dataset", "datamodule", "data_params"),
    "model": ("architecture", "model_params", "network"),
    "train": ("training", "trainer", "trainer_params", "exp_params", "optim"),
    "evaluate": ("evaluation", "eval"),
    "data.name": ("dataset_name",),
    "data.root": ("data_dir", "data_path", "data_root"),
    "data.labels": ("classes", "digits"),
    "data.limit": ("n_train", "n_samples", "limit_train_batches", "subset"),
    "data.validation_size": ("val_size", "validation_split", "val_split", "n_val"),
    "model.kind": ("type", "model_type"),
    "model.latent_dim": (
        *("z_dim", "dim_z", "zdim", "latent_size", "n_latent", "n_latents", "num_latents", "nz"),
        *("latents", "bottleneck", "embedding_dim", "n_components", "n_factors"),
    ),
    "model.components": ("n_components", "k", "n_clusters", "n_mixtures", "num_components"),
    "model.hidden": (
        *("hidden_dims", "hidden_dim", "hidden_size", "hidden_sizes", "hidden_layers", "layers"),
        *("hidden_layer_sizes", "h_dim"),
    ),
    "model.activation": ("nonlinearity", "act", "act_fn", "activation_fn"),
    "model.likelihood": ("decoder_dist", "recon_loss", "reconstruction_loss", "output_dist"),
    "model.sigma": ("scale", "std", "sigma_x", "x_std", "decoder_std"),
    "model.beta": ("kld_weight", "kl_weight", "kl_coef", "kl_beta", "lambda_kl"),
    "model.beta_warmup": ("kl_warmup", "kl_anneal", "warmup", "warmup_epochs", "anneal_epochs"),
    "model.covariance": ("covariance_type", "cov_type"),
    "model.covariance_floor": ("reg_covar", "min_covar", "min_var", "jitter"),
    "model.noise_floor": ("reg_covar", "min_covar", "min_var", "jitter"),
    "model.init": ("init_params", "initialisation", "initialization"),
    "model.precision": ("dtype",),
    "model.method": ("svd_method", "svd_solver", "solver"),
    "train.learning_rate": ("lr", "LR", "learning_rate_init", "step_size", "alpha"),
    "train.epochs": ("n_epochs", "num_epochs", "max_epochs", "nb_epoch"),
    "train.steps": ("max_steps", "n_steps", "num_steps"),
    "train.batch_size": ("bs", "batch", "minibatch_size", "train_batch_size"),
    "train.weight_decay": ("wd", "l2"),
    "train.schedule": ("scheduler", "lr_scheduler", "lr_schedule"),
    "train.gradient_clip": ("gradient_clip_val", "grad_clip", "clip_grad_norm", "clip", "max_norm"),
    "train.patience": ("early_stopping", "early_stopping_patience", "n_iter_no_change"),
    "train.max_iter": ("n_iter", "max_iters", "iterations", "n_iterations", "num_iters"),
    "train.tolerance": ("tol", "eps", "epsilon", "rtol"),
    "train.restarts": ("n_init", "n_restarts", "num_restarts", "num_inits"),
    "evaluate.importance_samples": ("iwae_samples", "n_importance", "num_importance_samples"),
}
"""By its dotted key, what else a key is called."""


def meant_by(name: str) -> list[str]:
    """The dotted keys that other tools call ``name``."""
    return [key for key, others in OTHER_NAMES.items() if name in others]
