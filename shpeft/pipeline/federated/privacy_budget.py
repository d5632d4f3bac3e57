"""What a site may spend of ε, what it has spent, and what each part costs."""

from shpeft.config.federation import Federation
from shpeft.config.schema import TrainingConfig
from shpeft.errors import TrainingError
from shpeft.training.privacy_accounting import Mechanism, composed_epsilon
from shpeft.training.private import Privacy, steps_per_epoch


def privacy_of(federation: Federation) -> Privacy | None:
    """Return how gradients are made private; None if they are not."""
    if not federation.noise:
        return None
    return Privacy(federation.noise, federation.clip, federation.delta, federation.selection_noise)


class PrivacyBudget:
    """The announced queries of a site's images, of which each is answered once.

    Attributes:
        privacy: how they are made private.

    Examples:
        >>> budget = PrivacyBudget(Privacy(2.0, 1.0, 1e-5, selection_noise=4.0), 160, TrainingConfig(epochs=10))
        >>> print(budget)
        ε 2.82 at δ 1e-05: 1.01 alone for the selection, 2.59 alone for training
        >>> budget.spend_selection()
        >>> round(budget.spent, 2)
        1.01
    """

    def __init__(self, privacy: Privacy, images: int, options: TrainingConfig) -> None:
        """Plan what the coordinator announced.

        Args:
            privacy: how gradients are made private.
            images: the number of training images of the site.
            options: the batch size and the number of epochs.
        """
        self.privacy = privacy
        self._per_epoch = steps_per_epoch(images, options.batch_size)
        self._rate, self._most_steps = min(1.0, options.batch_size / images), options.epochs * self._per_epoch
        self._selections = self._steps = 0

    def __str__(self) -> str:
        """Return what all queries together cost, and each part by itself; together they cost less than the sum."""
        delta, most = self.privacy.delta, self._mechanisms(1, self._most_steps)
        total = f"ε {self.planned:.2f} at δ {delta:g}"
        if len(most) == 1:
            return total
        selection, training = (composed_epsilon([part], delta) for part in most)
        return f"{total}: {selection:.2f} alone for the selection, {training:.2f} alone for training"

    @property
    def planned(self) -> float:
        """ε of all queries."""
        return composed_epsilon(self._mechanisms(1, self._most_steps), self.privacy.delta)

    @property
    def spent(self) -> float:
        """ε of the queries so far."""
        return composed_epsilon(self._mechanisms(self._selections, self._steps), self.privacy.delta)

    def spend_selection(self) -> None:
        """Note the query that selects the weights, before it is answered.

        Raises:
            TrainingError: it was not announced, or has been answered.
        """
        if not self.privacy.selection_noise:
            raise TrainingError("Scores of images are not private, and none are sent where training is.")
        if self._selections:
            raise TrainingError("The coordinator asks for scores again, which would spend more of ε than announced.")
        self._selections = 1

    def spend_training(self, epochs: int) -> None:
        """Note epochs of training, before they are trained.

        Raises:
            TrainingError: they are more than announced.
        """
        steps = self._steps + epochs * self._per_epoch
        if steps > self._most_steps:
            raise TrainingError("The coordinator asks for more rounds than it announced, which would spend more of ε.")
        self._steps = steps

    def _mechanisms(self, selections: int, steps: int) -> list[Mechanism]:
        training = Mechanism(self.privacy.noise, self._rate, steps)
        if not self.privacy.selection_noise:
            return [training]
        return [Mechanism(self.privacy.selection_noise, steps=selections), training]


def check_budget_allowed(budget: PrivacyBudget | None, most: float | None) -> None:
    """Check that a site agrees to what it would spend, before it spends anything.

    Args:
        budget: None: training is not private.
        most: the largest ε; None: any, and no privacy, too.

    Raises:
        TrainingError: it is more.
    """
    if most is not None and (budget is None or budget.planned > most):
        raise TrainingError(
            f"The coordinator offers {budget or 'no privacy'}, and this site takes part with ε of at most {most:g}. "
            "Ask for more noise, fewer epochs or smaller batches."
        )
