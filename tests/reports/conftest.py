"""A finished run whose classes have hostile names, and a report with every section."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import shpeft as library
from shpeft.evaluation import DecisionRules, ThresholdRule
from shpeft.explanation.attribution import attribute_weights
from shpeft.explanation.saliency import Sanity, check_saliency
from shpeft.explanation.saliency.measures import Faithfulness
from shpeft.images import open_image
from shpeft.pipeline import LoadedRun, load_run, set_decision_rules
from shpeft.runs import RunFolder
from tests.helpers.command_line import TINY, shpeft
from tests.helpers.present import present
from tests.helpers.report_pages import HOSTILE, MADE, FullReport, diagnosed, telling


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A finished run whose classes have hostile names, with a threshold."""
    directory, rng = tmp_path_factory.mktemp("Ward 7 of Telltale Clinic"), np.random.default_rng(0)
    lines = ["path,label"]
    for number in range(48):
        pixels = rng.integers(0, 120, (32, 32, 3)).astype(np.uint8)
        pixels[:, 10 * (number % 3) : 10 * (number % 3) + 10] += 90
        Image.fromarray(pixels).save(directory / f"DOE_JANE_{number}.png")
        label = HOSTILE[number % 3].replace('"', '""')
        lines.append(f'DOE_JANE_{number}.png,"{label}"')
    (directory / "labels.csv").write_text("\n".join(lines))
    config = directory / "tiny.yaml"
    config.write_text(TINY.replace("phantom:fundus?n=36&size=32", str(directory / "labels.csv")))
    run = tmp_path_factory.mktemp("runs") / "hostile"
    shpeft("finetune", "--config", config, "--out", run)
    opened = RunFolder.open(run)
    set_decision_rules(opened, DecisionRules(ThresholdRule(HOSTILE[0])))
    return opened


@pytest.fixture(scope="module")
def loaded(folder: RunFolder) -> LoadedRun:
    return load_run(folder, "cpu")


def passing(sanity: Sanity) -> Sanity:
    """Return the checks as if the map had passed them; that of a tiny random model need not."""
    best = Faithfulness(deletion=1 + max(control.score for control in sanity.controls), insertion=0.0)
    passed = replace(sanity, correlations=dict.fromkeys(sanity.correlations, 0.1), faithfulness=best)
    assert not passed.withheld
    return passed


@pytest.fixture(scope="module")
def everything(folder: RunFolder, loaded: LoadedRun, tmp_path_factory: pytest.TempPathFactory) -> FullReport:
    """A report with every part, of a telling file."""
    path = tmp_path_factory.mktemp("Telltale ward") / "DOE_JANE_1970.dcm"
    path.write_bytes(telling())
    diagnosis = diagnosed(loaded, path)
    inputs = loaded.backbone.transform(open_image(path, loaded.decoding))
    sanity = passing(check_saliency(loaded.backbone, inputs, present(diagnosis.saliency)))
    with loaded.pretrained() as base:
        attribution = attribute_weights(base, loaded.delta, inputs, 1)
    note = "Compare <b>both</b> sides\nand follow up."
    text = library.report(diagnosis, path, folder, sanity=sanity, attribution=attribution, note=note, made=MADE)
    return text, diagnosis, sanity, attribution, path
