"""What the training images' files state, in counts and ranges, and a case beside them."""

import json

import pytest

from shpeft.evaluation import TrainingFacts
from shpeft.images import Facts
from tests.helpers.present import present

FILES = [
    *[Facts(laterality="R", view="PA", spacing=(0.2, 0.4), plane="axial")] * 40,
    *[Facts(laterality="B", view="AP", spacing=(0.1, 0.1), plane="coronal")] * 8,
    *[Facts(laterality="L", view="JANE DOE")] * 4,  # too few to be stored
    *[Facts()] * 8,
]
CAREFULLY = "read the answer with care."
RARELY = f", and fewer than 5 like it: {CAREFULLY}"
TRAINING = present(TrainingFacts.of(FILES))


def test_only_what_several_images_share_is_stored() -> None:
    assert (
        TrainingFacts(60, {"B": 8, "R": 40}, {"AP": 8, "PA": 40}, {"axial": 40, "coronal": 8}, (0.1, 0.4), 48)
        == TRAINING
    )
    assert TrainingFacts.from_dict(json.loads(json.dumps(TRAINING.to_dict()))) == TRAINING
    assert TrainingFacts.of([Facts(laterality="L", view="PA", spacing=(1, 1), plane="axial")] * 4) is None
    assert TrainingFacts.of([]) is None


def test_what_the_training_images_have_or_nobody_knows_gets_no_caution() -> None:
    for case in (*FILES[:48:40], Facts(), Facts(laterality="U"), Facts(spacing=(0.05, 0.8))):
        assert TRAINING.cautions(case) == ()
    only_side = present(TrainingFacts.of([Facts(laterality="R")] * 5))
    assert only_side.cautions(Facts(laterality="R", view="LL", spacing=(9, 9), plane="axial")) == ()


@pytest.mark.parametrize(
    ("case", "sentence"),
    [
        (
            Facts(laterality="L"),
            "The file is marked left; of 60 training images, 8 are marked both sides, 40 right" + RARELY,
        ),
        (
            Facts(view="LL"),
            "The file is marked as view LL; of 60 training images, 8 are marked AP, 40 PA" + RARELY,
        ),
        (
            Facts(view="JANE DOE"),  # may be free text, and is not quoted
            "The file is marked with another view; of 60 training images, 8 are marked AP, 40 PA" + RARELY,
        ),
        (
            Facts(plane="sagittal"),
            "The slice is sagittal; of 60 training images, 40 are axial, 8 coronal" + RARELY,
        ),
        (
            Facts(spacing=(0.2, 0.81)),
            "A pixel of the file is 0.2 × 0.81 mm; in 48 of 60 training images it is 0.1 to 0.4 mm: " + CAREFULLY,
        ),
        (
            Facts(spacing=(0.049, 0.2)),
            "A pixel of the file is 0.049 × 0.2 mm; in 48 of 60 training images it is 0.1 to 0.4 mm: " + CAREFULLY,
        ),
    ],
)
def test_another_fact_gets_a_sentence(case: Facts, sentence: str) -> None:
    assert TRAINING.cautions(case) == (sentence,)
