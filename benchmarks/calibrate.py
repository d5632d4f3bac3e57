"""Fit the constants of ``shpeft.delta.kernels`` to the times of each kernel on this machine.

The kernels of ``SampledProduct`` are timed in turns on random supports of linear layers of a ViT. The fit minimizes
relative errors, in units of the dense product's multiply-adds. The table shows the fastest kernel, and how much slower
the one is that the constants choose: good constants make no choice expensive, however close the fit.
"""

import statistics
from functools import partial

import torch
from harness import arguments, interleaved, publish, table
from scipy.optimize import nnls

from shpeft.delta import kernels
from shpeft.delta.kernels import KERNELS, SampledProduct

TOKENS = 8 * 197
SHAPES = {
    "ViT-S qkv": (1152, 384),
    "ViT-S fc2": (384, 1536),
    "ViT-B qkv": (2304, 768),
    "ViT-B fc1": (3072, 768),
}
DENSITIES = (1e-5, 1e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
GATHERED = 1e-2
"""The largest density at which gathering is timed; above, it takes seconds and is never chosen."""


def support(shape: tuple[int, int], density: float) -> torch.Tensor:
    """Draw random flat indices, ascending."""
    k = max(1, round(density * shape[0] * shape[1]))
    generator = torch.Generator().manual_seed(k)
    return torch.randperm(shape[0] * shape[1], generator=generator)[:k].sort().values


def measure(tokens: int, densities: tuple[float, ...], repeats: int) -> str:
    """Return the section's text."""
    cells: list[tuple[str, float, SampledProduct, dict[str, float]]] = []
    for name, shape in SHAPES.items():
        gy, x = torch.randn(tokens, shape[0]), torch.randn(tokens, shape[1])
        for density in densities:
            index = support(shape, density)
            timed = [kernel for kernel in KERNELS if kernel != "gather" or density <= GATHERED]
            products = {kernel: SampledProduct(index, shape, kernel) for kernel in timed}
            arms = {}
            for kernel, product in products.items():
                needed = x[:, product.columns].contiguous()
                arms[kernel] = partial(product, gy, needed, torch.float32)
            seconds = {kernel: timing.median for kernel, timing in interleaved(arms, repeats).items()}
            cells.append((name, density, products["dense"], seconds))
    unit = statistics.median(s["dense"] / (len(p.rows) * len(p.columns)) for _, d, p, s in cells if d >= 1e-2)
    gather = statistics.median(s["gather"] / (unit * p.k) for _, d, p, s in cells if "gather" in s and d >= 1e-4)
    # seconds ≈ unit · (TRANSPOSE · (rows + columns) + SAMPLED · k), each equation divided by its seconds
    features = [
        [unit * (len(p.rows) + len(p.columns)) / s["sampled"], unit * p.k / s["sampled"]] for _, _, p, s in cells
    ]
    transpose, sampled = nnls(features, [1.0] * len(cells))[0]
    rows = []
    for name, density, product, seconds in cells:
        best = min(seconds, key=seconds.__getitem__)
        chosen = kernels.cheapest_kernel(product.k, len(product.rows), len(product.columns))
        rows.append(
            [f"{name}, {100 * density:g} %"]
            + [f"{1000 * seconds[kernel]:.2f}" if kernel in seconds else "–" for kernel in KERNELS]
            + [best, chosen, f"{seconds.get(chosen, float('nan')) / seconds[best]:.2f}"]
        )
    return (
        f"Milliseconds for {tokens} tokens; medians of {repeats} turns. Fitted here: GATHER {gather:.0f}, SAMPLED "
        f"{sampled:.1f}, TRANSPOSE {transpose:.0f}; in use: {kernels.GATHER:g}, {kernels.SAMPLED:g}, "
        f"{kernels.TRANSPOSE:g}.\n\n" + table(("layer and density", *KERNELS, "fastest", "chosen", "× fastest"), rows)
    )


def main() -> None:
    """Measure and print."""
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=TOKENS)
    parser.add_argument("--densities", type=float, nargs="+", default=DENSITIES)
    options = parser.parse_args()
    publish(
        "The cost of the kernels", measure(options.tokens, tuple(options.densities), options.repeats), options.write
    )


if __name__ == "__main__":
    main()
