"""The service: the same answers as the command line's, for those who have the token, within its limits."""

import io
import json
import threading
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from PIL import Image, ImageDraw
from starlette.testclient import TestClient

from shpeft import NOTICE
from shpeft.batch import summary
from shpeft.diagnosis import diagnose
from shpeft.reports import report
from shpeft.reports.dicom import dicom_results
from shpeft.service import limits
from shpeft.service.api import create_app
from shpeft.service.limits import RateLimit
from shpeft.service.worker import Worker
from tests.helpers.command_line import shpeft
from tests.helpers.dicom_studies import PLANTED, slice_of

schemathesis = pytest.importorskip("schemathesis")
from schemathesis.specs.openapi.checks import positive_data_acceptance  # noqa: E402 (any bytes fit the schema, few are images)

TOKEN = "secret"
HEADERS = {"Authorization": f"Bearer {TOKEN}"}
HOST = {"Host": "127.0.0.1"}


def client_of(worker: Worker, **options: Any) -> TestClient:
    app = create_app([worker], TOKEN, **options)
    return TestClient(app, base_url="http://127.0.0.1:8600", headers=HEADERS, raise_server_exceptions=False)


@pytest.fixture(scope="module")
def client(worker: Worker) -> TestClient:
    return client_of(worker, per_minute=100_000)


def zipped(*files: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for number, data in enumerate(files):
            archive.writestr(f"{number}.dcm", data)
    return buffer.getvalue()


def test_the_answer_has_the_bits_of_the_command_line(client: TestClient, worker: Worker, tmp_path: Path) -> None:
    image = io.BytesIO()
    Image.effect_noise((40, 50), 80).convert("RGB").save(image, "PNG")
    for name, data in (("a.dcm", slice_of()), ("b.png", image.getvalue())):
        (tmp_path / name).write_bytes(data)
        (entry,) = json.loads(shpeft("diagnose", worker.run.path, tmp_path / name, "--device", "cpu", "--json").stdout)
        answer = client.post("/api/diagnose", content=data).json()
        assert {**answer, "id": ""} == {**entry, "id": ""}
        assert answer["id"].startswith("case-")
        assert answer["notice"] == NOTICE


def with_text() -> bytes:
    """Return a slice with text in its pixels."""
    image = Image.new("L", (96, 80), 60)
    ImageDraw.Draw(image).text((8, 60), "DOE JANE 4711", fill=255)
    pixels = np.asarray(image).astype(np.uint16).tobytes()
    return slice_of(shape=(80, 96), PixelData=pixels, RescaleIntercept=0, WindowCenter=128, WindowWidth=256)


@pytest.mark.parametrize(("data", "seen"), [(with_text(), ["text"]), (slice_of(BurnedInAnnotation="YES"), [])])
def test_what_is_burnt_in_is_the_same_fact_everywhere(
    client: TestClient, worker: Worker, tmp_path: Path, data: bytes, seen: list[str]
) -> None:
    path, csv = tmp_path / "a.dcm", tmp_path / "table.csv"
    path.write_bytes(data)
    diagnosis = diagnose(worker.loaded.backbone, data, decoding=worker.loaded.decoding)
    fact = diagnosis.burnt_in
    assert fact is not None
    assert (fact.present, fact.to_dict()["seen"]) == (True, seen)
    command = ("diagnose", worker.run.path, path, "--device", "cpu")
    assert fact.sentence in shpeft(*command, "--out", tmp_path).stdout
    (entry,) = (json.loads(file.read_text()) for file in tmp_path.glob("*.json"))
    assert client.post("/api/diagnose", content=data).json()["burnt_in"] == entry["burnt_in"] == fact.to_dict()
    shpeft(*command, "--csv", csv)
    assert summary(csv.read_text()).marked == 1
    assert fact.sentence in report(diagnosis, data, worker.run)
    assert fact.sentence.encode() in dicom_results(diagnosis, data, worker.run).files["report"]
    series = client.post("/api/diagnose?series_rule=mean", content=zipped(slice_of(1), data)).json()
    assert [answer["burnt_in"]["present"] for answer in series] == [True]


def test_nothing_burnt_in_is_a_fact_too(client: TestClient) -> None:
    fact = client.post("/api/diagnose", content=slice_of(shape=(10, 10))).json()["burnt_in"]
    assert fact == {"present": False, "seen": [], "stated": None, "sentence": ""}


def test_a_zip_of_series_gets_an_answer_for_each(client: TestClient, worker: Worker, tmp_path: Path) -> None:
    data = zipped(slice_of(2), slice_of(0), slice_of(1), slice_of(5, SeriesInstanceUID="2.25.9"))
    (tmp_path / "study.zip").write_bytes(data)
    command = (
        "diagnose",
        worker.run.path,
        tmp_path / "study.zip",
        "--series-rule",
        "mean",
        "--device",
        "cpu",
        "--json",
    )
    printed = json.loads(shpeft(*command).stdout)
    answers = client.post("/api/diagnose?series_rule=mean", content=data).json()
    assert [answer["slices"] for answer in answers] == [3, 1]
    assert [{**answer, "id": ""} for answer in answers] == [{**entry, "id": ""} for entry in printed]


def test_results_are_a_zip_of_the_study(client: TestClient) -> None:
    response = client.post("/api/results", content=slice_of())
    assert response.headers["content-type"] == "application/zip"
    archive = zipfile.ZipFile(io.BytesIO(response.content))
    report = pydicom.dcmread(io.BytesIO(archive.read("report.dcm")))
    assert report.StudyInstanceUID == "2.25.1001"
    for name in archive.namelist():
        for value in PLANTED.values():
            assert value.encode() not in archive.read(name)


def test_models_and_health(client: TestClient, worker: Worker) -> None:
    assert client.get("/healthz", headers={"Authorization": ""}).json() == {"status": "ok"}
    (model,) = client.get("/api/models").json()
    assert model["name"] == worker.run.name
    assert model["classes"] == ["healthy", "haemorrhages", "exudates"]
    assert {len(digest) for digest in model["fingerprints"].values()} == {64}


@pytest.mark.parametrize(
    ("path", "data", "status", "sentence"),
    [
        ("/api/diagnose", b"no image", 422, "The file cannot be read as an image"),
        ("/api/diagnose", b"", 422, "has no body"),
        ("/api/diagnose", zipped(slice_of()), 422, "by which rule"),
        ("/api/diagnose?series_rule=best", slice_of(), 422, "There is no such rule"),
        (
            "/api/diagnose?series_rules=mean",
            slice_of(),
            422,
            "no such parameter of the query; there are model and series_rule",
        ),
        ("/api/diagnose?=mean", slice_of(), 422, "no such parameter"),
        ("/api/diagnose?series_rule=mean&series_rule=mean", slice_of(), 422, "given twice"),
        ("/api/results?series_rule=mean", slice_of(), 422, "no such parameter of the query; there are model."),
        ("/api/diagnose?series_rule=mean", b"no zip", 422, "not a zip"),
        ("/api/diagnose?model=other", slice_of(), 404, "There is no model"),
        ("/api/results", slice_of(StudyInstanceUID=None), 422, "has no StudyInstanceUID"),
        ("/api/nothing", b"", 404, "Not Found"),
    ],
)
def test_refusals_are_sentences(client: TestClient, path: str, data: bytes, status: int, sentence: str) -> None:
    response = client.post(path, content=data)
    assert response.status_code == status
    assert sentence in response.json()["error"]


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer wrong", "secret", "Basic c2VjcmV0", "Bearer sécret"])
def test_without_the_token_nothing_is_answered(client: TestClient, header: str) -> None:
    sent = {"Authorization": header.encode()}
    assert client.get("/api/models", headers=sent).status_code == 401  # type: ignore[arg-type]
    assert client.post("/api/diagnose", headers=sent, content=slice_of()).status_code == 401  # type: ignore[arg-type]


def test_other_host_names_are_refused(client: TestClient) -> None:
    assert client.get("/api/models", headers={"Host": "evil.example"}).status_code == 400


def test_large_and_many_requests_are_sent_away(worker: Worker) -> None:
    small = client_of(worker, most=1000)
    assert small.post("/api/diagnose", content=b"x" * 1001).status_code == 413
    few = client_of(worker, per_minute=2)
    assert [few.get("/api/models").status_code for _ in range(3)] == [200, 200, 429]
    assert int(few.get("/api/models").headers["retry-after"]) >= 1


def test_a_busy_model_sends_requests_away(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MOST_WAITING", 1)
    gate = threading.Event()
    blocked = worker.submit(gate.wait)
    try:
        assert client_of(worker).post("/api/diagnose", content=slice_of()).status_code == 503
    finally:
        gate.set()
        blocked.result()
    assert client_of(worker).post("/api/diagnose", content=slice_of()).status_code == 200


def test_a_defect_is_answered_without_its_message(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: bytes) -> None:
        raise RuntimeError("DOE^JANE")

    monkeypatch.setattr(worker, "answer", fail)
    response = client_of(worker).post("/api/diagnose", content=slice_of())
    assert response.status_code == 500
    assert "DOE" not in response.text


def test_the_bucket_fills_again() -> None:
    now = [0.0]
    limit = RateLimit(6, clock=lambda: now[0])
    assert [limit.take() == 0 for _ in range(7)] == [True] * 6 + [False]
    now[0] = 10.0
    assert limit.take() == 0
    assert limit.take() == pytest.approx(10.0)


# -- every request that the description allows, and many that it does not


OPERATIONS = [("GET", "/healthz"), ("GET", "/api/models"), ("POST", "/api/diagnose"), ("POST", "/api/results")]


@pytest.fixture(scope="module")
def description(worker: Worker) -> Any:
    app = create_app([worker], TOKEN, per_minute=10**9)
    return schemathesis.openapi.from_asgi("/openapi.json", app, headers=HOST)


def test_every_operation_is_tried(description: Any) -> None:
    operations = [each.ok() for each in description.get_all_operations()]
    assert [(each.method.upper(), each.path) for each in operations] == OPERATIONS


@pytest.mark.parametrize("method", ["positive", "negative"])
@pytest.mark.parametrize(("verb", "path"), OPERATIONS)
def test_the_service_does_what_its_description_says(verb: str, path: str, method: str, description: Any) -> None:
    operation = description[path][verb]
    if method == "negative" and verb == "GET":
        pytest.skip("it has no inputs that could be wrong")
    strategy = operation.as_strategy(generation_mode=schemathesis.GenerationMode(method))

    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
    @given(strategy)
    def try_it(case: Any) -> None:
        case.call_and_validate(headers={**HEADERS, **HOST}, excluded_checks=[positive_data_acceptance])

    try_it()
