"""Saliency methods by name: attributions of one class's logit to the pixels."""

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module

from shpeft.backbones import Backbone
from shpeft.errors import DiagnosisError, did_you_mean
from shpeft.explanation.saliency.case import Explained, Result
from shpeft.explanation.saliency.legrad import attention_blocks, legrad
from shpeft.explanation.saliency.passes import IG_STEPS, NOISE_SAMPLES, OCCLUSION_WINDOWS, SHAP_SAMPLES


def _on_first_use(module: str, name: str) -> Callable[[Explained], Result]:
    """Return a method whose module is imported when it is used: Captum takes a second, and not every map needs it."""

    def attribute(case: Explained) -> Result:
        result: Result = getattr(import_module(f"shpeft.explanation.saliency.{module}"), name)(case)
        return result

    return attribute


@dataclass(frozen=True)
class Method:
    """Saliency method with its description and cost.

    Attributes:
        name: key of :data:`METHODS`.
        title: name for users.
        sentence: what the map shows, and its limits.
        cost: number of images that pass forward through the model.
        backward: number of these that also pass backward to the pixels.
        attribute: computes the attributions.
    """

    name: str
    title: str
    sentence: str
    cost: int
    backward: int
    attribute: Callable[[Explained], Result] = field(repr=False, compare=False)


_ALL = (
    Method(
        "saliency",
        "Saliency",
        "Sensitivity of the logit to a tiny change of each pixel. Fast and noisy.",
        1,
        1,
        _on_first_use("captum_methods", "saliency"),
    ),
    Method(
        "input_x_gradient",
        "Input × gradient",
        "The gradient times the pixel's difference from the mean color. Fast and noisy; mean-colored pixels get 0.",
        1,
        1,
        _on_first_use("captum_methods", "input_x_gradient"),
    ),
    Method(
        "integrated_gradients",
        "Integrated gradients",
        "Attributes the logit's change from a mean-colored baseline image to this one; the residual shows how"
        " completely. Depends on the baseline.",
        2 * IG_STEPS + 4,
        2 * IG_STEPS,
        _on_first_use("captum_methods", "integrated_gradients"),
    ),
    Method(
        "smoothgrad",
        "SmoothGrad",
        "The gradient, averaged over noisy copies of the image. Less noisy, but reflects similar images, too.",
        NOISE_SAMPLES,
        NOISE_SAMPLES,
        _on_first_use("captum_methods", "smoothgrad"),
    ),
    Method(
        "gradient_shap",
        "Gradient SHAP",
        "Integrated gradients from several single-color baselines at random steps: depends less on one baseline. The"
        " residual is larger because of the sampling.",
        3 * SHAP_SAMPLES,
        SHAP_SAMPLES,
        _on_first_use("captum_methods", "gradient_shap"),
    ),
    Method(
        "occlusion",
        "Occlusion",
        "Change of the logit when a square is covered with the mean color. Uses no gradients; misses findings that are"
        " larger or much smaller than the square.",
        (2 * OCCLUSION_WINDOWS - 1) ** 2 + 1,
        0,
        _on_first_use("captum_methods", "occlusion"),
    ),
    Method(
        "grad_cam",
        "Grad-CAM",
        "Positions of the last layer that support the class (positive part of gradient × activation). Coarse: one value"
        " per patch, enlarged. Empty if no position supports the class.",
        2,
        1,
        _on_first_use("gradcam", "grad_cam"),
    ),
    Method(
        "legrad",
        "LeGrad",
        "How the score would rise with the attention to each patch, over all layers of a vision transformer. Coarse:"
        " one value per patch, enlarged. The least sensitive patch gets 0.",
        1,
        1,
        legrad,
    ),
)

METHODS: dict[str, Method] = {method.name: method for method in _ALL}
"""The saliency methods by name."""

TRANSFORMER_DEFAULT, OTHER_DEFAULT = "legrad", "smoothgrad"
"""Default methods: of vision transformers, and of models without attention maps (`benchmarks/RESULTS.md`).

SmoothGrad points at lesions more often than LeGrad, but takes four times as long with its checks. Of the methods that
take one pass, LeGrad's maps always followed the weights and were withheld least often.
"""


def default_method(backbone: Backbone) -> str:
    """Return the method that is used if none is named.

    Examples:
        >>> import shpeft
        >>> default_method(shpeft.create_backbone("test_vit", classes=["a", "b"], weights="random", image_size=32))
        'legrad'
        >>> default_method(shpeft.create_backbone("test_convnext", classes=["a", "b"], weights="random"))
        'smoothgrad'
    """
    return TRANSFORMER_DEFAULT if attention_blocks(backbone) else OTHER_DEFAULT


def supported_methods(backbone: Backbone) -> tuple[str, ...]:
    """Return the methods that the backbone supports, the default one first."""
    default = default_method(backbone)
    others = [name for name in METHODS if name != default]
    return (default, *(name for name in others if name != "legrad" or attention_blocks(backbone)))


def check_method(method: str) -> None:
    """Raise a DiagnosisError with the nearest names if the method is unknown."""
    if method not in METHODS:
        raise DiagnosisError(f"There is no saliency method {method!r}. {did_you_mean(method, METHODS)}")
