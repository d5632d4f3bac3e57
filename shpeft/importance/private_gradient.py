"""A selection that is paid for: the gradient of all images by the Gaussian mechanism, and scores made of it.

The gradient of each image in all eligible weights together is clipped to the norm C, and Gaussian noise of standard
deviation z C is added to every coordinate of the sum: one query of the Gaussian mechanism (Dwork and Roth, 2014,
appendix A), whose ε follows from z alone. Scores, shortlists and supports that are made of it cost nothing more.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from shpeft import equations
from shpeft.config.schema import SelectionConfig
from shpeft.datasets import Split
from shpeft.forward.base import ForwardPass
from shpeft.importance.gradient_passes import Tensors, at_least_float32
from shpeft.importance.scores import Scores, estimate_importance, hybrid
from shpeft.linear_probe import Head
from shpeft.support.progress import Progress, silent
from shpeft.support.secure_random import secure_normal


def clipped_gradient_sum(
    forward_pass: ForwardPass,
    split: Split,
    names: Sequence[str],
    clip: float,
    *,
    progress: Progress = silent,
) -> Tensors:
    """Return the sum over all images of min(1, C / ‖g‖) g, where g is an image's gradient in all named parameters.

    The model runs on one image at a time, so that no other image takes part in g, whatever the layers do: an image that
    is added or removed moves the sum by at most C, one that is replaced by at most 2 C. An image whose gradient is not
    finite counts as one without any: a sum that is NaN would tell that it takes part.

    In memory, beside the model, are the sum and one gradient.

    Args:
        split: all of its images take part. A sample of so many would change as a whole with their number.
        names: the parameters.
        clip: C.

    Returns:
        for each parameter a tensor of its shape, float32 or wider, on the model's device.

    Raises:
        SelectionError: a parameter lies in a part of the model whose features are cached.
    """
    forward_pass.check(names)
    parameters = {name: forward_pass.backbone.parameters[name] for name in names}
    totals = {name: torch.zeros_like(at_least_float32(p.detach())) for name, p in parameters.items()}
    with forward_pass.backbone.frozen():
        for p in parameters.values():
            p.requires_grad_(True)
        for done, (inputs, target) in enumerate(forward_pass.batches(split, 1)):
            progress("importance of the weights", done, len(split))
            with torch.enable_grad():
                split.task.loss(forward_pass(inputs), target, "sum").backward()
            gradients = {name: p.grad for name, p in parameters.items() if p.grad is not None}
            norm = torch.nn.utils.get_total_norm([at_least_float32(g) for g in gradients.values()])
            if norm.isfinite():
                for name, g in gradients.items():
                    totals[name].add_(g, alpha=clip / max(float(norm), clip))
            for p in parameters.values():
                p.grad = None
    progress("importance of the weights", len(split), len(split))
    return totals


def private_gradient(
    forward_pass: ForwardPass,
    split: Split,
    names: Sequence[str],
    *,
    noise: float,
    clip: float,
    generator: torch.Generator | None = None,
    progress: Progress = silent,
) -> Tensors:
    """Return (Σ min(1, C / ‖g‖) g + z C ξ) / N, where ξ is standard normal on every coordinate.

    The number N of images is public, as it is in private training. The backbone's current head must be public as well,
    or paid for: see ``private_scores``.

    Args:
        split: the N images.
        names: the parameters.
        noise: z.
        clip: C.
        generator: of the noise, for tests; None: ``secure_normal``, which nobody can guess.

    Returns:
        for each parameter a tensor of its shape, float32 or wider, on the CPU.

    Raises:
        SelectionError: a parameter lies in a part of the model whose features are cached.

    Examples:
        >>> import shpeft
        >>> data = shpeft.load_dataset("phantom:fundus?n=36&size=32", seed=0)
        >>> model = shpeft.create_backbone("test_vit", classes=data.classes, weights="random", image_size=32)
        >>> name = "blocks.0.attn.qkv.weight"
        >>> private_gradient(ForwardPass(model), data.train, [name], noise=1.0, clip=1.0)[name].shape
        torch.Size([192, 64])
    """
    totals = clipped_gradient_sum(forward_pass, split, names, clip, progress=progress)
    private = Tensors()
    for name in list(totals):  # emptied on the way: one parameter at a time is in memory twice
        total = totals.pop(name)
        drawn = secure_normal(total.shape) if generator is None else torch.randn(total.shape, generator=generator)
        total.add_(drawn.to(total), alpha=noise * clip)
        private[name] = total.div_(len(split)).cpu().contiguous()
    return private


def private_scores(
    forward_pass: ForwardPass,
    split: Split,
    head: Head,
    options: SelectionConfig,
    *,
    noise: float,
    clip: float,
    generator: torch.Generator | None = None,
    progress: Progress = silent,
) -> Scores:
    """Return the scores |g| or |w| |g| of all eligible weights, where g is the private gradient under a public head.

    The head decides what leaks beside g. The linear probe of these images is fitted without noise, so that gradients
    under it would tell about each image in a way that clipping does not bound. Under a zero head they vanish: ∂L/∂x is
    Wᵀ(p − y) with W = 0. Under a random head they are noise. A head that is trained privately would cost ε. A head that
    was made without these images costs nothing and means something: across sites that is the linear probe on the
    coordinator's own images, with which private training begins, too. It need not be trusted: the bound of C holds
    under any head that does not depend on these images.

    Args:
        split: the images; all take part.
        head: made without them.
        options: ``score`` is ``gradient``, or ``hybrid`` for the product; with ``norm``, ``exponent`` and ``scope``.
        noise, clip, generator: as for ``private_gradient``.

    Examples:
        >>> import shpeft
        >>> data = shpeft.load_dataset("phantom:fundus?n=36&size=32", seed=0)
        >>> elsewhere = shpeft.load_dataset("phantom:fundus?n=36&size=32", seed=1)
        >>> model = shpeft.create_backbone("test_vit", classes=data.classes, weights="random", image_size=32)
        >>> head = shpeft.fit_linear_probe(model, elsewhere.train, elsewhere.val)
        >>> private_scores(ForwardPass(model), data.train, head, SelectionConfig(), noise=1.0, clip=1.0)
        Scores(hybrid product (l1, private), 122.9K eligible of 300.1K weights)
    """
    backbone, form = forward_pass.backbone, options.norm if options.score == "hybrid" else "l1"
    infos = backbone.weight_infos(options.scope)
    names = [info.name for info in infos]
    with head.applied(backbone):
        gradient = private_gradient(
            forward_pass, split, names, noise=noise, clip=clip, generator=generator, progress=progress
        )
    values = {name: _scored(gradient.pop(name), form) for name in names}
    specific = Scores(f"task-specific ({form}, private)", values, infos, backbone.weight_count)
    if options.score != "hybrid":
        return specific
    agnostic = estimate_importance(backbone, split, "magnitude", norm=form, scope=options.scope)
    return hybrid(specific, agnostic, "product", exponent=options.exponent, name=f"hybrid product ({form}, private)")


def _scored(g: Tensor, form: equations.Norm) -> Tensor:
    return equations.task_specific(g, form).float()
