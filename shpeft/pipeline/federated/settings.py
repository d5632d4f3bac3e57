"""Which settings of a run are offered across sites, and which where training is private."""

from shpeft.config.federation import Federation
from shpeft.config.schema import AUTO, RunConfig
from shpeft.errors import ConfigError

PUBLIC = ("magnitude", "random")
"""Scores that need no images."""

PAID = ("hybrid", "gradient")
"""Scores that the private gradient of a site's images makes."""


def check_settings(config: RunConfig, federation: Federation) -> None:
    """Check that a run can be carried out across sites, and privately if it is to be.

    Raises:
        ConfigError: a setting that is not offered there; the message says what is.
    """
    selection, training = config.selection, config.training
    refused = {
        "budget auto": selection.budget == AUTO,
        "score wanda": selection.score == "wanda",
        f"formula {selection.formula}": selection.score == "hybrid" and selection.formula != "product",
        f"average {training.average}": training.average == "last_quarter",
    }
    if asked := [name for name, use in refused.items() if use]:
        raise ConfigError(
            f"Sites cannot train together with {' and '.join(asked)}. Across sites there are a budget as a share or a "
            "count; the scores hybrid by product, gradient, fisher, magnitude and random; and the best single round."
        )
    usual, plain = RunConfig(), ("augment", "mixup", "label_smoothing", "balance", "lr_scale", "compiled")
    scored = ("images", "expectation") if federation.selection_noise else ()
    secret = {
        f"score {selection.score}": selection.score not in (PAID if federation.selection_noise else PUBLIC),
        f"scope {selection.scope}": selection.scope in ("all", "blocks"),  # single images: linear layers alone
        "personal heads": federation.personal_heads,
        **{f"selection.{name}": getattr(selection, name) != getattr(usual.selection, name) for name in scored},
        **{name: getattr(training, name) != getattr(usual.training, name) for name in plain},
    }
    if federation.noise and (asked := [name for name, use in secret.items() if use]):
        raise ConfigError(
            f"Private training is not offered with {', '.join(asked)}. With --noise, weights are selected by --score "
            "magnitude or random, which need no image, or with --selection-noise by hybrid or gradient, of all images "
            "of a site at once, among matrices (--scope matrices or last:n); the head is shared; and images are "
            "neither varied nor weighted."
        )
    if federation.selection_noise and not federation.noise:
        raise ConfigError(
            "A private selection (--selection-noise) protects no image where training is not private. Add --noise, or "
            "leave it out."
        )
