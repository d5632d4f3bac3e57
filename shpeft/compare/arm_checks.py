"""Whether the settings of an arm make sense, with each other and in its plan."""

from typing import TYPE_CHECKING

from shpeft.compare.arm import Arm

if TYPE_CHECKING:
    from shpeft.compare.plan import Plan


def check_arm(plan: "Plan", name: str, arm: Arm) -> None:
    """Check that an arm can do what its settings say, in its plan.

    Raises:
        ValueError: it cannot; the message says why.
    """
    sizes = [size for size in plan.sizes(arm) if size is not None]
    if isinstance(arm.lr, dict) and (unknown := [size for size in arm.lr if size not in sizes]):
        has = f"its budgets are {', '.join(f'{size:g}' for size in sizes)}" if sizes else "it has no budgets"
        raise ValueError(f"arm {name} has learning rates{at_budget(unknown[0])}; {has}")
    for other in (arm.like, arm.of):
        if other is not None and (other == name or other not in plan.arms):
            raise ValueError(f"arm {name} refers to {other!r}; the arms are {', '.join(plan.arms)}")
    if arm.kind == "revert" and (arm.of is None or plan.arms[arm.of].kind != "full"):
        raise ValueError(f"arm {name} reverts nothing: give 'of', an arm of kind full")
    if (arm.kind == "choice") != bool(arm.among) or (arm.rule != "lowest" and not arm.among):
        raise ValueError(f"arm {name}: kind choice and 'among', the arms of which one is taken, need each other")
    if arm.kind == "choice" and (
        others := sorted(arm.model_dump(exclude_defaults=True).keys() - {"kind", "among", "rule"})
    ):
        raise ValueError(f"arm {name} takes an arm as it is, so that {others[0]} has no effect: leave it out")
    if missing := [each for each in arm.among if each not in plan.arms or plan.arms[each].kind == "choice"]:
        raise ValueError(f"arm {name} cannot choose {missing[0]!r}; name other arms of {', '.join(plan.arms)}")
    among = dict.fromkeys(arm.among)
    if arm.kind == "choice" and (
        len(among) < len(arm.among) or sum(len(plan.sizes(plan.arms[each])) for each in among) < 2
    ):
        raise ValueError(f"arm {name} has nothing to choose from: name two arms, each once, or one with two budgets")
    if arm.selects_changes and (arm.of is None or plan.arms[arm.of].kind != "full"):
        raise ValueError(f"arm {name} selects by the changes of no arm: give 'of', an arm of kind full")
    if arm.of is not None and not arm.selects_changes and arm.kind != "revert":
        raise ValueError(f"arm {name}: 'of' is for kind revert, and for the score or the agnostic half 'change'")
    if arm.agnostic == "change" and not arm.selects_changes:
        raise ValueError(f"arm {name} has agnostic change, which is for sparse arms of score hybrid: leave it out")
    if arm.selects_changes and arm.reselect_after:
        raise ValueError(f"arm {name} selects by the changes of {arm.of}, which are the same when it selects again")
    if arm.like is not None and (arm.score != "random" or plan.arms[arm.like].kind != "sparse"):
        raise ValueError(f"arm {name}: 'like' is for score random and names a sparse arm")
    if len(plan.datasets) < 2 and ("consensus" in (arm.score, arm.agnostic) or arm.gradients == "other"):
        raise ValueError(f"arm {name} needs gradients of another dataset, and there is only one")
    if plan.image_sizes and ("consensus" in (arm.score, arm.agnostic) or arm.gradients == "other"):
        raise ValueError(f"arm {name} needs gradients of datasets with images of one size: leave image_sizes out")
    if arm.initial_head == "random" and (arm.kind != "full" or arm.wise is not None):
        raise ValueError(f"arm {name}: initial_head random is for kind full, without 'wise', which is from the probe")
    if arm.reselect_after and arm.reselect_after >= (arm.epochs or plan.training.epochs):
        raise ValueError(f"arm {name} selects again after {arm.reselect_after} epochs, when training is over")
    if reason := _impossible_selection(arm):
        raise ValueError(f"arm {name} {reason}")
    if arm.reselect_after and (arm.score not in ("hybrid", "gradient", "fisher") or arm.gradients != "own"):
        chosen = f"score {arm.score}" if arm.gradients == "own" else f"gradients {arm.gradients}"
        raise ValueError(f"arm {name} has {chosen}, and weights are selected again by the task's own gradients alone")
    if arm.like is not None and plan.arms[arm.like].prune_from is not None:
        raise ValueError(f"arm {name}: {arm.like} has no counts per layer before training, because it prunes")
    if arm.members > 1 and arm.kind != "sparse":
        raise ValueError(f"arm {name} has {arm.members} members, which is for kind sparse")
    if arm.posterior is not None and (arm.kind != "sparse" or arm.views > 1):
        raise ValueError(f"arm {name}: a posterior is for kind sparse, with a single view of an image")
    if arm.wise is not None and (arm.kind not in ("full", "sparse") or arm.posterior is not None):
        raise ValueError(f"arm {name}: 'wise' is for kinds full and sparse, without a posterior, which is at Δ itself")
    if arm.prune_from is not None:
        _check_pruning(plan, name, arm)
    twins = [twin for twin, settings in plan.arms.items() if settings == arm and twin != name]
    if twins:
        raise ValueError(f"arms {name} and {twins[0]} are the same")


def _check_pruning(plan: "Plan", name: str, arm: Arm) -> None:
    settings, average = plan.settings(arm), arm.average or plan.training.average
    if arm.kind != "sparse" or arm.reselect_after:
        raise ValueError(f"arm {name}: 'prune_from' is for kind sparse, without 'reselect_after'")
    if settings.patience:
        raise ValueError(f"arm {name} prunes its weights in half of the epochs, and patience may stop it there: give 0")
    if settings.epochs < 2:
        raise ValueError(f"arm {name} prunes its weights in half of the epochs: give at least 2")
    if isinstance(average, int) and average > settings.epochs - settings.epochs // 2 + 1:
        raise ValueError(f"arm {name} averages {average} of {settings.epochs} epochs, and half of them prune weights")
    for size in plan.sizes(arm):
        same = isinstance(size, int) == isinstance(arm.prune_from, int)  # a share and a count: known when it runs
        if same and size is not None and arm.prune_from is not None and size >= arm.prune_from:
            raise ValueError(f"arm {name} prunes from {arm.prune_from:g} to {size:g}, which is not less")


def _impossible_selection(arm: Arm) -> str:
    """Return why an arm cannot select weights as its settings say, in words; empty if it can."""
    crossed, counted = arm.heads == "cross-fitted", arm.count_exponent is not None
    settings = {"heads": crossed, "step_size": arm.step_size is not None, "count_exponent": counted}
    own = next((name for name, given in settings.items() if given), None)
    if own and (arm.kind != "sparse" or arm.like is not None):
        selects_otherwise = f"is of kind {arm.kind}" if arm.kind != "sparse" else f"has the counts of {arm.like}"
        return (
            f"{selects_otherwise} and gives {own}, which is for sparse arms that select by their scores: leave it out"
        )
    if (arm.score == "step") != settings["step_size"]:
        return f"has score {arm.score} and step_size {arm.step_size}: score step and a step_size need each other"
    if arm.score == "step" and (arm.expectation != "batch" or arm.reselect_after or arm.lr_scale == "sensitivity"):
        return (
            "has score step, which takes the gradient of all images and the squares of single ones, at the pretrained "
            "weights and for equal steps: leave expectation, reselect_after and lr_scale sensitivity out"
        )
    if crossed and arm.score in ("magnitude", "random", "wanda", "change"):
        return f"has score {arm.score}, for which no gradient is taken under a head: leave heads out"
    if arm.score == "step" and crossed and arm.prune_from is not None:
        return "prunes by squared gradients of batches, which hold images of several heads: leave heads or step out"
    if crossed and arm.expectation == "batch" and arm.score != "step":
        return "has cross-fitted heads, and a batch holds images of several of them: give expectation all or image"
    if crossed and arm.reselect_after:
        return "selects again when the weights have seen all images, so that no head leaves any out: leave heads out"
    signed = arm.score == "step" or arm.order == "smallest" or (arm.score, arm.formula) == ("hybrid", "quota")
    if counted and (signed or arm.spread != "none"):
        return (
            "has a count_exponent, which needs sums of scores that are not negative, and selects the largest scores of "
            "each parameter: leave score step, formula quota, order smallest and spread out"
        )
    return ""


def at_budget(budget: int | float | None) -> str:
    """Return ``at 0.0001`` after a space; empty without a budget."""
    return "" if budget is None else f" at {budget:g}"
