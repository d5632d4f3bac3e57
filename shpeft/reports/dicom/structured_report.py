"""The answer as a structured report by template TID 1500 (PS3.16), which archives index and viewers show."""

from typing import TYPE_CHECKING

import shpeft
from shpeft import NOTICE
from shpeft.diagnosis import Diagnosis
from shpeft.evaluation import Answer, Estimate
from shpeft.reports.dicom.codes import coding_scheme, concept, named, unit_code
from shpeft.reports.dicom.made_by import MANUFACTURER, Model, finish, new_uid
from shpeft.reports.dicom.source import Source

if TYPE_CHECKING:
    from highdicom.sr import Measurement, MeasurementReport, QualitativeEvaluation, TextContentItem
    from pydicom import Dataset

TITLE = "Answer of a model, for research"


def structured_report(diagnosis: Diagnosis, source: Source, model: Model, remarks: tuple[str, ...] = ()) -> "Dataset":
    """Return the answer as an unverified, preliminary TID 1500 report that refers to the image.

    A predicted number is a measurement with its unit in UCUM, and so are the ends of its interval. Without an answer
    the report has its reasons, and neither a class, a probability nor a number.

    Args:
        diagnosis: the result.
        source: the diagnosed file.
        model: the model that made it.
        remarks: more sentences, such as the rule by which a series was answered.
    """
    from highdicom import sr
    from pydicom.sr.codedict import codes

    answer = diagnosis.answer
    context = sr.ObservationContext(
        observer_device_context=sr.ObserverContext(
            observer_type=codes.DCM.Device,
            observer_identifying_attributes=sr.DeviceObserverIdentifyingAttributes(
                uid=model.device_uid,
                name=model.name[:64],
                manufacturer_name=MANUFACTURER,
                model_name=model.backbone[:64],
                serial_number=model.delta,
            ),
        )
    )
    group = sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(uid=new_uid(), identifier="The image"),
        algorithm_id=sr.AlgorithmIdentification(
            name=f"shpeft: {model.name}", version=shpeft.__version__, parameters=model.parameters
        ),
        measurements=_measurements(answer),
        qualitative_evaluations=_evaluations(answer),
        source_images=[
            sr.SourceImageForMeasurementGroup(
                source.tags.SOPClassUID,
                source.tags.SOPInstanceUID,
                [source.frame + 1] if source.frames > 1 else None,
            )
        ],
    )
    report = sr.MeasurementReport(
        observation_context=context,
        procedure_reported=concept("IMAGE_CLASS", "Classification of an image by a model")
        if answer.estimate is None
        else concept("IMAGE_NUMBER", "Measurement of an image by a model"),
        imaging_measurements=[group],
        title=codes.DCM.ImagingMeasurementReport,
    )
    _add_sentences(report, (*_sentences(diagnosis), *(("REMARK", "Remark", text) for text in remarks)))
    shared = model.equipment("report")
    for name in ("manufacturer_model_name", "software_versions", "device_serial_number"):
        shared.pop(name)
    document = sr.ComprehensiveSR(
        evidence=[source.tags],
        content=report[0],
        is_complete=True,
        is_final=False,
        is_verified=False,
        coding_schemes=[coding_scheme()],
        **shared,
    )
    document.ManufacturerModelName = model.backbone[:64]
    document.SoftwareVersions, document.DeviceSerialNumber = shpeft.__version__, model.delta
    return finish(document, TITLE)


def _evaluations(answer: Answer) -> "list[QualitativeEvaluation]":
    """Return the answer as a code: the decision, or that there is none; a number is a measurement instead."""
    from highdicom.sr import QualitativeEvaluation

    if answer.given and answer.estimate is not None:
        return []
    value = named("", answer.decision) if answer.given else concept("NO_ANSWER", answer.headline)
    return [
        QualitativeEvaluation(concept("ANSWER", "Answer"), value),
        *(
            QualitativeEvaluation(concept("POSSIBLE", "Still possible"), named("", name))
            for name in (answer.still_possible if answer.given else ())
        ),
    ]


def _measurements(answer: Answer) -> "list[Measurement]":
    """Return the numbers behind an answer; none without one."""
    from highdicom.sr import Measurement
    from pydicom.sr.codedict import codes

    if not answer.given:
        return []
    if answer.estimate is not None:
        return _numbers(answer.estimate)
    kind = "Calibrated probability of" if answer.calibrated else "Uncalibrated probability of"
    values = [(named(kind, answer.probability_of), answer.probability)]
    if answer.threshold is not None:
        values.append((concept("THRESHOLD", "Operating threshold on the probability"), answer.threshold))
    if answer.rates is not None:
        sensitivity, specificity = answer.rates.sensitivity, answer.rates.specificity
        for code, meaning, share in (
            ("SENSITIVITY", "Sensitivity on the test images", sensitivity),
            ("SPECIFICITY", "Specificity on the test images", specificity),
        ):
            if share.cases:
                values.append((concept(code, meaning), share.count / share.cases))
    return [Measurement(name, float(value), codes.UCUM.NoUnits) for name, value in values]


def _numbers(estimate: Estimate) -> "list[Measurement]":
    """Return a predicted number, and the ends of its interval where it has one."""
    from highdicom.sr import Measurement

    values = [("", estimate.value)]
    if estimate.low is not None and estimate.high is not None and estimate.coverage is not None:
        interval = f"end of {100 * estimate.coverage:.0f} % interval:"
        values += [(f"Lower {interval}", estimate.low), (f"Upper {interval}", estimate.high)]
    unit = unit_code(estimate.unit)
    return [Measurement(named(kind, estimate.quantity), float(value), unit) for kind, value in values]


def _sentences(diagnosis: Diagnosis) -> tuple[tuple[str, str, str], ...]:
    """Return the report's sentences as (code, name, text), as the page and the printed report have them."""
    answer = diagnosis.answer
    known = answer.sentences if answer.given else (*answer.reasons, "A qualified reader has to decide.")
    kind = ("EVIDENCE", "What is known about the answer") if answer.given else ("REASON", "Reason for no answer")
    return (
        ("NOTICE", "Notice", NOTICE),
        *(("CAUTION", "Caution", text) for text in diagnosis.cautions),
        ("HEADLINE", "Answer", answer.headline),
        *((*kind, text) for text in known),
    )


def _add_sentences(report: "MeasurementReport", sentences: tuple[tuple[str, str, str], ...]) -> None:
    """Add sentences to a report in the container that TID 1500 has for them (rows 10 to 12)."""
    from highdicom.sr import CodedConcept, ContainerContentItem, ContentSequence, RelationshipTypeValues

    container = ContainerContentItem(
        name=CodedConcept("C0034375", "UMLS", "Qualitative Evaluations"),
        relationship_type=RelationshipTypeValues.CONTAINS,
    )
    container.ContentSequence = ContentSequence([_text(*sentence) for sentence in sentences])
    report[0].ContentSequence.append(container)


def _text(code: str, name: str, text: str) -> "TextContentItem":
    from highdicom.sr import RelationshipTypeValues, TextContentItem

    return TextContentItem(concept(code, name), text, RelationshipTypeValues.CONTAINS)
