"""How much of the selection is recovered from the private gradient, by noise and by the number of images.

The clipped gradients of all images are summed once; noise is drawn anew for each row. The head is the linear probe on
another draw of the same phantom. Rows of more images take the same mean gradient: noise in it falls with their number.
Nothing is timed.
"""

import torch
from harness import arguments, publish, table
from torch import Tensor

from shpeft.backbones import create_backbone
from shpeft.datasets import load_dataset
from shpeft.forward.base import ForwardPass
from shpeft.importance.private_gradient import clipped_gradient_sum
from shpeft.importance.scores import estimate_importance
from shpeft.linear_probe import fit_linear_probe
from shpeft.selection.top_k import budget_to_count
from shpeft.training.privacy_accounting import Mechanism, composed_epsilon

NOISE = (0.5, 1.0, 2.0, 4.0)
"""z of the selection."""

DELTA = 1e-5


def main() -> None:
    """Run the benchmark."""
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--phantom", default="fundus")
    parser.add_argument("--cases", type=int, default=400, help="of which half are training images")
    parser.add_argument("--backbone", default="vit_small_patch14_dinov2")
    parser.add_argument("--weights", default="pretrained")
    parser.add_argument("--image-size", type=int, default=112)
    parser.add_argument("--scope", default="matrices")
    parser.add_argument("--budget", type=float, default=1e-4)
    parser.add_argument("--clip", type=float, default=1.0)
    options = parser.parse_args()
    size = options.image_size
    data, elsewhere = (load_dataset(f"phantom:{options.phantom}?n={options.cases}&size={size}", seed=s) for s in (0, 1))
    model = create_backbone(options.backbone, classes=data.classes, weights=options.weights, image_size=size)
    forward_pass, images = ForwardPass(model), len(data.train)
    fit_linear_probe(model, elsewhere.train, elsewhere.val).write(model)
    infos = model.weight_infos(options.scope)
    k = budget_to_count(options.budget, model.weight_count)
    w = flat([model.parameters[info.name].detach() for info in infos])
    plain = estimate_importance(model, data.train, "gradient", images=images, scope=options.scope)
    exact = flat([plain.values[info.name] for info in infos])
    sums = clipped_gradient_sum(forward_pass, data.train, [info.name for info in infos], options.clip)
    mean = flat(list(sums.values())) / images
    best = {"product": (exact * w.abs()).topk(k).indices, "gradient": exact.topk(k).indices}

    def recovered(g: Tensor) -> list[str]:
        scores = {"product": g.abs() * w.abs(), "gradient": g.abs()}
        return [f"{share(scores[name].topk(k).indices, best[name]):.1f}" for name in best]

    generator = torch.Generator().manual_seed(0)
    rows = [("without noise", "", f"{images:,}", *recovered(mean))]
    for factor in (1, 10, 100):
        for z in NOISE:
            noisy = mean + z * options.clip / (factor * images) * torch.randn(mean.shape, generator=generator)
            epsilon = composed_epsilon([Mechanism(z)], DELTA)
            rows.append((f"{z:g}", f"{epsilon:.2f}", f"{factor * images:,}", *recovered(noisy)))
    rows.append(("by magnitude", "0", "", f"{share(w.abs().topk(k).indices, best['product']):.1f}", ""))
    norm = float(mean.norm())
    chance = 100 * k / len(w)
    body = (
        f"{options.backbone} at {size} px, phantom {options.phantom}, {k:,} of {len(w):,} weights (scope "
        f"{options.scope}), C = {options.clip:g}; the mean of the clipped gradients has the norm {norm:.2f}. Percent "
        f"of the weights that are selected without privacy, by |w| |g| and by |g|; chance gives {chance:.2f}. ε at δ "
        f"{DELTA:g}."
    )
    header = ("z", "ε", "images", "product", "gradient")
    publish(f"A private selection, scope {options.scope}", f"{body}\n\n{table(header, rows)}", options.write)


def flat(parts: list[Tensor]) -> Tensor:
    """Return the concatenation."""
    return torch.cat([part.reshape(-1) for part in parts]).float()


def share(chosen: Tensor, best: Tensor) -> float:
    """Return the percentage of the best that is among the chosen."""
    return 100 * float(torch.isin(chosen, best).float().mean())


if __name__ == "__main__":
    main()
