"""Sanity checks: an edge detector fails, a planted answer passes, and the model is restored."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from captum.metrics import sensitivity_max
from scipy.stats import spearmanr
from torch import Tensor, nn

from shpeft.backbones import Backbone
from shpeft.errors import Cancelled, DiagnosisError
from shpeft.explanation.saliency import METHODS, Map, PassTime, Saliency, check_saliency, explain
from shpeft.explanation.saliency.measures import (
    NOISE,
    NOISY,
    RANDOM_MAPS,
    SHARES,
    STAGES,
    Faithfulness,
    faithfulness,
    max_sensitivity,
    randomization,
)
from shpeft.explanation.saliency.sanity import ALIKE, EXPLANATIONS, FORWARD_PASSES, Sanity
from shpeft.support.progress import Progress
from shpeft.support.seeding import seeded
from tests.conftest import assert_unchanged, state, tiny
from tests.helpers.readable_model import SIZE, Corner, readable


@pytest.fixture
def image() -> Tensor:
    return torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(5))


def edges(backbone: Backbone, image: Tensor, progress: Progress) -> Map:
    """An edge detector: looks good on any image, and never at the model."""
    gray = image[0].mean(0)
    magnitude: Map = np.hypot(*np.gradient(gray.cpu().numpy())).astype(np.float32)
    return magnitude


def gradient(backbone: Backbone, image: Tensor, progress: Progress) -> Map:
    return explain(backbone, image, 0, "saliency").map


def test_edge_detector_fails_the_randomization_check_and_the_gradient_passes(vit: Backbone, image: Tensor) -> None:
    before = state(vit)
    result = randomization(vit, image, edges(vit, image, lambda *_: None), edges)
    assert list(result) == list(STAGES)
    assert list(result.values()) == [pytest.approx(1)] * len(STAGES)
    result = randomization(vit, image, gradient(vit, image, lambda *_: None), gradient)
    assert result["all layers"] < ALIKE
    assert_unchanged(vit, before)


def test_verdict_on_an_edge_detector(vit: Backbone, image: Tensor) -> None:
    drawn = edges(vit, image, lambda *_: None)
    correlations = randomization(vit, image, drawn, edges)
    result, controls = faithfulness(vit, image, 0, drawn)
    sanity = Sanity("edges", 0, correlations, result, controls, 0.0, 0.0)
    assert not sanity.follows_the_weights
    assert "fails the randomization check" in sanity.sentences()[0]
    assert "rank correlation 1.00" in sanity.sentences()[0]


@pytest.mark.parametrize("name", ["test_vit", "test_convnext", "test_resnet"])
def test_each_stage_randomizes_more_weights_from_the_head_down(name: str, image: Tensor) -> None:
    backbone, seen = tiny(name), []
    nn.init.normal_(backbone.head.weight)

    def look(model: Backbone, images: Tensor, progress: Progress) -> Map:
        seen.append(state(model))
        return np.zeros((32, 32), np.float32)

    result = randomization(backbone, image, np.zeros((32, 32), np.float32), look)
    assert set(result.values()) == {0.0}  # maps that are the same everywhere have no ranks
    before = state(backbone)
    moved = [{key for key in before if not torch.equal(before[key], after[key])} for after in seen]
    head = {f"{backbone.head_name}.weight", f"{backbone.head_name}.bias"}
    assert moved[0] - head == set()  # a bias that is 0 throughout has nothing to be drawn from
    assert f"{backbone.head_name}.weight" in moved[0]
    assert moved[0] < moved[1] < moved[2]
    depth = {info.name: info.depth for info in backbone.weight_infos()}
    upper, rest = ({depth[key] for key in part if key in depth} for part in (moved[1], moved[2] - moved[1]))
    assert min(upper) > max(rest)
    assert {info.name for info in backbone.weight_infos("matrices")} <= moved[2]
    for key in moved[2]:
        if before[key].numel() > 1000:
            torch.testing.assert_close(seen[2][key].std(), before[key].std(), rtol=0.2, atol=0)


def test_the_planted_quarter_passes_deletion_and_insertion_and_another_quarter_fails() -> None:
    backbone = readable(Corner())
    backbone.head.weight.data.abs_()  # every pixel of the quarter speaks for the class: parts do not cancel
    image = torch.rand(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(7))
    half = SIZE // 2
    planted, wrong = np.zeros((2, SIZE, SIZE), np.float32)
    planted[:half, :half] = wrong[half:, half:] = 1
    result, controls = faithfulness(backbone, image, 0, planted)
    assert len(controls) == RANDOM_MAPS
    assert all(result.score > control.score for control in controls)
    result, controls = faithfulness(backbone, image, 0, wrong)
    assert sum(result.score > control.score for control in controls) < RANDOM_MAPS / 2
    assert result.deletion < 0.5 * np.mean([control.deletion for control in controls])


def test_deletion_and_insertion_equal_a_plain_loop() -> None:
    backbone = readable(Corner())
    image = torch.randn(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(7))
    values = np.random.default_rng(2).permutation(SIZE * SIZE).reshape(SIZE, SIZE).astype(np.float32)
    result, _ = faithfulness(backbone, image, 1, values)
    with torch.no_grad():
        whole, deleted, inserted = backbone(image)[0, 1].item(), [], []
        for share in SHARES:
            salient = torch.from_numpy(values >= SIZE * SIZE * (1 - share))
            deleted.append(abs(backbone(image * ~salient)[0, 1].item() - whole))
            inserted.append(abs(backbone(image * salient)[0, 1].item() - whole))
    assert result.deletion == pytest.approx(np.mean(deleted), abs=1e-6)
    assert result.insertion == pytest.approx(np.mean(inserted), abs=1e-6)


def test_the_sensitivity_is_the_largest_relative_change_under_small_noise(image: Tensor) -> None:
    seen = []

    def mean(noisy: Tensor) -> Map:
        seen.append(noisy)
        return noisy[0].abs().sum(0).numpy()

    saliency_map = image[0].abs().sum(0).numpy()
    result = max_sensitivity(image, saliency_map, mean)
    changes = [np.linalg.norm(mean(noisy) - saliency_map) / np.linalg.norm(saliency_map) for noisy in seen[:]]
    assert result == pytest.approx(max(changes), rel=1e-5)
    assert all(0 < (noisy - image).abs().max() <= NOISE for noisy in seen)


def test_the_sensitivity_equals_captum_s(image: Tensor) -> None:
    def maps(images: tuple[Tensor]) -> tuple[Tensor]:  # a tuple: Captum takes the norm of each row of a bare tensor
        return (images[0].abs().sum(1),)

    with seeded(3, image.device):
        expected = sensitivity_max(maps, image, perturb_radius=NOISE, n_perturb_samples=NOISY, max_examples_per_batch=1)
    actual = max_sensitivity(image, maps((image,))[0][0].numpy(), lambda noisy: maps((noisy,))[0][0].numpy(), seed=3)
    assert actual == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("method", ["saliency", "smoothgrad", "grad_cam"])
def test_check_restores_the_model_and_is_reproducible(method: str, image: Tensor) -> None:
    backbone = tiny()
    nn.init.normal_(backbone.head.weight, generator=torch.Generator().manual_seed(0))
    saliency, before, torch_rng = explain(backbone, image, 1, method), state(backbone), torch.get_rng_state()
    a, b = (check_saliency(backbone, image, saliency, seed=1) for _ in range(2))
    assert (a.correlations, a.faithfulness, a.controls, a.sensitivity) == (
        b.correlations,
        b.faithfulness,
        b.controls,
        b.sensitivity,
    )
    assert a.controls != check_saliency(backbone, image, saliency, seed=2).controls
    assert_unchanged(backbone, before)
    assert torch.equal(torch.get_rng_state(), torch_rng)
    assert a.passed == a.follows_the_weights + a.marks_what_counts
    for passed, sentence in zip((a.follows_the_weights, a.marks_what_counts), a.sentences(), strict=True):
        assert ("passes" if passed else "fails") in sentence


def test_check_reports_progress_in_image_passes(vit: Backbone, image: Tensor) -> None:
    seen: list[tuple[int, int]] = []
    passed: list[int] = []
    vit.module.register_forward_hook(lambda _, args, out: passed.append(len(out)))  # copies carry it too
    saliency = explain(vit, image, 0, "integrated_gradients")
    assert saliency.map.any()
    passed.clear()
    check_saliency(vit, image, saliency, progress=lambda stage, done, total: seen.append((done, total)))
    total = EXPLANATIONS * METHODS["integrated_gradients"].cost + FORWARD_PASSES
    assert seen == sorted(seen)
    assert seen[-1] == (total, total)
    assert sum(passed) == total


def test_a_check_can_be_cancelled_at_any_point(vit: Backbone, image: Tensor) -> None:
    saliency, before, calls = explain(vit, image, 0, "saliency"), state(vit), []
    check_saliency(vit, image, saliency, progress=lambda *call: calls.append(call))
    for last in range(0, len(calls), 5):
        left = iter(range(last))

        def stop(stage: str, done: int, total: int, left: Iterator[int] = left) -> None:
            if next(left, None) is None:
                raise Cancelled

        with pytest.raises(Cancelled):
            check_saliency(vit, image, saliency, progress=stop)
        assert_unchanged(vit, before)


def test_an_empty_map_cannot_be_checked(vit: Backbone, image: Tensor) -> None:
    empty = Saliency("grad_cam", 0, np.zeros((32, 32), np.float32), None, 0.0)
    with pytest.raises(DiagnosisError, match=r"Grad-CAM is the same everywhere.*Choose another method"):
        check_saliency(vit, image, empty)


def test_the_expected_time_is_the_counted_passes_times_the_time_of_one(vit: Backbone) -> None:
    before, pace = state(vit), PassTime(forward=0.01, backward=0.03)
    assert pace.explanation("integrated_gradients") == pytest.approx(40 * 0.03 + 4 * 0.01)
    assert pace.explanation("gradient_shap") == pytest.approx(64 * 0.03 + 128 * 0.01)
    assert pace.explanation("occlusion") == pytest.approx(226 * 0.01)
    assert pace.check("saliency") == pytest.approx(EXPLANATIONS * 0.03 + FORWARD_PASSES * 0.01)
    with pytest.raises(DiagnosisError, match="no saliency method"):
        pace.explanation("saliencies")
    measured = PassTime.measure(vit)
    assert 0 < measured.forward < measured.backward
    assert_unchanged(vit, before)


@pytest.mark.parametrize("method", [name for name in METHODS if name != "legrad"])  # which goes back from each block
def test_each_method_makes_its_declared_backward_passes(vit: Backbone, image: Tensor, method: str) -> None:
    went_back: list[int] = []

    def see(_: nn.Module, args: object, logits: Tensor) -> None:
        if logits.requires_grad:
            logits.register_hook(lambda gradient: went_back.append(len(gradient)))

    vit.module.register_forward_hook(see)
    explain(vit, image, 0, method)
    assert sum(went_back) == METHODS[method].backward


def test_rank_correlation_is_spearmans(vit: Backbone, image: Tensor) -> None:
    first, second = (explain(vit, image, target, "smoothgrad").map for target in (0, 1))
    result = randomization(vit, image, first, lambda *_: second)
    assert result["all layers"] == pytest.approx(spearmanr(first.ravel(), second.ravel()).statistic)


@pytest.mark.parametrize(
    ("likeness", "beaten", "reason"),
    [
        (0.1, 19, ""),
        (0.1, 10, ""),
        (0.1, 9, "better than only 9 of 19 moved copies of itself."),
        (0.5, 19, "a model with random weights gives nearly the same map."),
        (0.9, 0, "the same map and it marks what the score depends on better than only 0 of 19"),
    ],
)
def test_a_map_that_misleads_is_withheld_with_the_reason(likeness: float, beaten: int, reason: str) -> None:
    controls = tuple(Faithfulness(-1.0 if n < beaten else 1.0, 0.0) for n in range(19))
    sanity = Sanity("saliency", 0, dict.fromkeys(STAGES, likeness), Faithfulness(0.0, 0.0), controls, 0.1, 0.1)
    assert sanity.beaten == beaten
    assert (sanity.withheld == "") == (reason == "")
    assert reason in sanity.withheld
