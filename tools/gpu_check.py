"""Check shpeft on a graphics card and time it there: one command, one JSON file, under eight minutes.

    python tools/gpu_check.py --out gpu.json

Every check ends with its numbers or its error; one that fails does not end the others. ``--device cpu --small`` tries
the script itself on a processor, with tiny models.
"""

import argparse
import json
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

from arms import Builder, Work, dense_mask, floor, full, ours
from peft_arms import PEFT_ARMS, peft

import shpeft
from shpeft.backbones import Backbone, create_backbone
from shpeft.batch import diagnose_batch, open_source
from shpeft.config.schema import Precision
from shpeft.delta.file import save_delta
from shpeft.delta.sparse_delta import SparseDelta
from shpeft.forward.base import ForwardPass
from shpeft.forward.cached import CachedForward, split_below
from shpeft.importance.scores import estimate_importance
from shpeft.jobs import JobManager
from shpeft.selection.top_k import select
from shpeft.support.environment import environment
from shpeft.support.memory import as_out_of_memory
from shpeft.training.loop import finetune

LIMIT = 8 * 60
"""Seconds after which no further check begins."""

LARGE = {"vit_base_patch16_224": 256, "vit_large_patch16_224": 128, "vit_giant_patch14_224": 32}
"""Models that are timed, and the images of a batch that is halved until it fits."""

SMALL = {"test_vit": 4}

STEPS = 5
"""Timed steps of each arm, after one that is not."""


class Checks:
    """The checks on one device.

    Attributes:
        results: by the name of the check, its numbers and seconds, or its error.
    """

    def __init__(self, device: str, small: bool) -> None:
        """Prepare the images; nothing is checked yet."""
        self.device, self.small = torch.device(device), small
        self.models = SMALL if small else LARGE
        self.data = shpeft.load_dataset("phantom:fundus?n=120&size=64", seed=0)
        self.results: dict[str, Any] = {}
        self._began = time.monotonic()

    def run(self, name: str, check: Callable[[], Any]) -> None:
        """Carry out a check and keep what it returns."""
        if time.monotonic() - self._began > LIMIT:
            self.results[name] = {"left_out": f"{LIMIT} s were over"}
            return
        began = time.monotonic()
        try:
            self.results[name] = {"result": check()}
        except Exception as error:
            self.results[name] = {"error": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc()}
        self.results[name]["seconds"] = round(time.monotonic() - began, 2)
        self._free()
        print(
            f"{name}: {json.dumps(self.results[name].get('result', self.results[name].get('error')))}", file=sys.stderr
        )

    # -- does it compute the same

    def training(self, precision: Precision = "float32", **options: Any) -> dict[str, Any]:
        """Train twice: the same bits, and all bits of the backbone restored afterwards."""
        files = []
        for _ in range(2):
            backbone, delta = self._prepared()
            before = {name: tensor.clone() for name, tensor in backbone.module.state_dict().items()}
            forward_pass = ForwardPass(backbone, precision)
            reports = list(finetune(backbone, delta, self.data, epochs=2, forward_pass=forward_pass, **options))
            changed = [n for n, t in backbone.module.state_dict().items() if not torch.equal(t, before[n])]
            assert not changed, f"not restored to the bit: {changed[:3]}"
            with tempfile.TemporaryDirectory() as root:
                files.append(save_delta(delta, Path(root) / "delta").read_bytes())
        return {"same_bits_twice": files[0] == files[1], "losses": [report.loss for report in reports[1:]]}

    def gradients(self) -> dict[str, float]:
        """Compare the exact sparse gradients with the entries of the dense ones."""
        work = self._work("test_vit", 8)
        arm = ours(1e-2, score="random")(work)
        assert arm.delta is not None
        assert arm.values is not None
        arm.loss().backward()
        indices, grad = arm.delta.support.indices, arm.values.grad
        assert grad is not None
        dense = torch.autograd.grad(work.loss(work.backbone), [work.backbone.parameters[name] for name in indices])
        expected = torch.cat([g.reshape(-1)[at.to(g.device)] for g, at in zip(dense, indices.values(), strict=True)])
        off = float((grad - expected).abs().max() / expected.abs().max())
        assert off < 1e-4, f"the gradient is {off:g} off"
        return {"largest_difference_of_the_largest": off}

    def prefix_cache(self) -> dict[str, float]:
        """Compare logits with and without cached features."""
        backbone, delta = self._prepared(scope="last:2")
        split = split_below(backbone, delta.support.indices)
        assert split is not None
        cached, whole = CachedForward(split), ForwardPass(backbone)
        with torch.no_grad():
            pairs = zip(cached.batches(self.data.val, 8), whole.batches(self.data.val, 8), strict=True)
            off = max(float((cached(a) - whole(b)).abs().max()) for (a, _), (b, _) in pairs)
        assert off < 1e-3, f"cached features change the logits by {off:g}"
        return {"largest_difference": off}

    def out_of_memory(self) -> dict[str, str]:
        """Ask for more memory than there is, and read the sentence."""
        if self.device.type != "cuda":
            return {"left_out": "needs a card"}
        try:
            torch.empty(2**45, device=self.device)
        except RuntimeError as error:
            if (sentence := as_out_of_memory(error)) is None:
                raise
            return {"sentence": str(sentence)}
        raise AssertionError("32 TiB were granted")

    def queue(self) -> dict[str, Any]:
        """Run a job on the device and one on the processor side by side."""
        config = shpeft.RunConfig.parse(
            {
                "dataset": {"source": "phantom:fundus?n=36&size=32"},
                "backbone": {"name": "test_vit", "weights": "random", "image_size": 32},
                "selection": {"budget": 40, "images": 8},
                "training": {"epochs": 2},
            }
        )
        with tempfile.TemporaryDirectory() as root:
            manager = JobManager(Path(root))
            names = [manager.submit(config.model_copy(update={"device": d})) for d in (self.device.type, "cpu")]
            deadline = time.monotonic() + 120
            while time.monotonic() < deadline and not all(manager.snapshot(n).status == "finished" for n in names):
                time.sleep(0.2)
            statuses = {name: manager.snapshot(name).status for name in names}
            manager.shutdown()
        assert set(statuses.values()) == {"finished"}, statuses
        return {"finished": len(statuses)}

    # -- how fast is it

    def steps(self, model: str, precision: Precision) -> dict[str, Any]:
        """Time a step of each method, in turns, with the largest batch of powers of two that fits full fine-tuning."""
        arms: dict[str, Builder] = {
            "full": full,
            "dense mask": dense_mask(1e-4),
            **({} if peft is None else {"lora-qkv": PEFT_ARMS["lora-qkv"]}),
            "floor": floor,
            "ours 0.01 %": ours(1e-4, score="random"),
            "ours 1 %": ours(1e-2, score="random"),
        }
        batch = self.models[model]
        while batch:
            try:
                return {"batch": batch, **self._timed(model, batch, precision, arms)}
            except RuntimeError as error:
                if as_out_of_memory(error) is None:
                    raise
            self._free()
            batch //= 2
        raise AssertionError("no batch fits")

    def scoring(self, model: str) -> dict[str, float]:
        """Score and select all weights of a model."""
        backbone = self._backbone(model)
        images = 8 if self.small else 64
        with self._clocked() as seconds:
            scores = estimate_importance(backbone, self.data.train, scope="matrices", images=images, batch_size=4)
        with self._clocked() as selecting:
            support = select(scores, 1e-4)
        return {
            "weights": backbone.weight_count,
            "selected": support.k,
            "scoring_seconds": seconds[0],
            "selection_seconds": selecting[0],
            "peak_GiB": self._peak(),
        }

    def diagnosing(self) -> dict[str, float]:
        """Diagnose a folder of images into a CSV, one by one and several together."""
        count = 8 if self.small else 200
        with tempfile.TemporaryDirectory() as root:
            config = shpeft.RunConfig.parse(
                {
                    "dataset": {"source": "phantom:fundus?n=36&size=64"},
                    "backbone": {"name": "test_vit", "weights": "random", "image_size": 32},
                    "selection": {"budget": 40, "images": 8},
                    "training": {"epochs": 1},
                    "device": self.device.type,
                }
            )
            folder = shpeft.RunFolder.create(Path(root) / "run", config)
            shpeft.run(config, folder)
            images = Path(root) / "images"
            images.mkdir()
            for row in range(count):
                self.data.train.image(row % len(self.data.train)).save(images / f"{row}.png")
            rates = {"images": float(count)}
            with shpeft.load_run(folder, self.device.type) as loaded, open_source([images]) as source:
                for size in (1, 32):
                    with self._clocked() as seconds:
                        diagnose_batch(loaded, source, Path(root) / f"{size}.csv", batch_size=size)
                    rates[f"images_a_second_by_{size}"] = count / seconds[0]
        return rates

    # -- helpers

    def _backbone(self, model: str, size: int | None = None) -> Backbone:
        return create_backbone(model, classes=self.data.classes, weights="random", image_size=size, device=self.device)

    def _prepared(self, scope: str = "matrices") -> tuple[Backbone, SparseDelta]:
        backbone = self._backbone("test_vit", 32)
        support = select(estimate_importance(backbone, self.data.train, images=16, scope=scope), 100)
        return backbone, SparseDelta.zeros(backbone, support)

    def _work(self, model: str, batch: int) -> Work:
        backbone = self._backbone(model, 32 if model == "test_vit" else None)
        images = torch.randn(batch, *backbone.input_shape, device=self.device)
        labels = torch.arange(batch, device=self.device) % len(self.data.classes)
        return Work(backbone, images, labels, self.data.train)

    def _timed(self, model: str, batch: int, precision: Precision, arms: dict[str, Builder]) -> dict[str, Any]:
        work, rows = self._work(model, batch), {}
        for name, build in arms.items():
            arm = build(work)
            with torch.autocast(self.device.type, torch.bfloat16, enabled=precision == "bfloat16"):
                arm.step()
                self._reset_peak()
                seconds = []
                for _ in range(STEPS):
                    with self._clocked() as clock:
                        arm.step()
                    seconds.append(clock[0])
            rows[name] = {"seconds": sorted(seconds)[len(seconds) // 2], "peak_GiB": self._peak()}
            del arm
            self._free()
        whole = rows["full"]["seconds"]
        return {name: row | {"of_full": row["seconds"] / whole} for name, row in rows.items()}

    @contextmanager
    def _clocked(self) -> Iterator[list[float]]:
        """Yield a list that holds the seconds of the block afterwards, the device's work included."""
        seconds: list[float] = []
        self._wait()
        began = time.perf_counter()
        yield seconds
        self._wait()
        seconds.append(time.perf_counter() - began)

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def _free(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _reset_peak(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()

    def _peak(self) -> float:
        return torch.cuda.max_memory_allocated() / 2**30 if self.device.type == "cuda" else 0.0


def main() -> None:
    """Carry out all checks and write the JSON; the exit code is 1 if one failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true", help="tiny models: to try the script itself")
    parser.add_argument("--out", type=Path, default=Path("gpu_check.json"))
    options = parser.parse_args()
    checks = Checks(options.device, options.small)
    checks.run("gradients", checks.gradients)
    checks.run("training", checks.training)
    checks.run("bfloat16", lambda: checks.training(precision="bfloat16"))
    checks.run("checkpointing", lambda: checks.training(checkpointing=True))
    checks.run("prefix cache", checks.prefix_cache)
    checks.run("out of memory", checks.out_of_memory)
    checks.run("two devices in the queue", checks.queue)
    checks.run("diagnose --csv", checks.diagnosing)
    for model in checks.models:
        for precision in ("float32", "bfloat16"):
            checks.run(f"step of {model}, {precision}", lambda m=model, p=precision: checks.steps(m, p))
    checks.run(f"scoring of {model}", lambda: checks.scoring(model))
    checks.run("compiled", lambda: checks.training(compiled=True))
    card = torch.cuda.get_device_name() if checks.device.type == "cuda" else "none"
    report = {"device": options.device, "card": card, "environment": environment(), "checks": checks.results}
    options.out.write_text(json.dumps(report, indent=1) + "\n")
    failed = [name for name, result in checks.results.items() if "error" in result]
    print(f"{len(checks.results) - len(failed)} of {len(checks.results)} checks passed: {options.out}")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
