"""One model across sites of one process: as ordinary training where there is one site, and robust where one fails."""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from shpeft import pipeline
from shpeft.config.federation import Federation
from shpeft.config.schema import RunConfig
from shpeft.datasets import Dataset, load_dataset
from shpeft.delta.file import load_delta
from shpeft.delta.sparse_delta import SparseDelta
from shpeft.errors import Cancelled, ClassMismatch, ConfigError, RunError, TrainingError
from shpeft.linear_probe import fit_linear_probe
from shpeft.pipeline.federated import LocalSites, Message, Site, coordinate
from shpeft.runs import RunFolder
from shpeft.support.jsonable import to_jsonable
from tests.federated.conftest import CONFIG, local, only, share
from tests.pipeline.conftest import carry_out, tiny

Fault = tuple[str, str, Callable[[Message], Message | bytes | None] | None, str]


@pytest.fixture(scope="module")
def data() -> Dataset:
    return load_dataset("phantom:fundus?n=90&size=32", seed=0)


def across(
    path: Path, sites: Any, federation: Federation | None = None, config: RunConfig = CONFIG, **options: Any
) -> tuple[RunFolder, dict[str, Any]]:
    folder = RunFolder.create(path, config)
    return folder, coordinate(config, federation or Federation(), folder, sites, **options)


def delta_of(folder: RunFolder) -> SparseDelta:
    with pipeline.load_run(folder, "cpu") as loaded:
        return load_delta(folder.delta_path, base=loaded.backbone)


def test_with_one_site_it_is_ordinary_training_to_the_bit(tmp_path: Path) -> None:
    training = {"epochs": 3, "batch_size": 16, "lr": 3e-3, "head_lr": 3e-3, "lr_scale": "sensitivity"}
    config = tiny(
        training=training | {"average": "none"},
        dataset={"source": "phantom:fundus?n=60&size=32"},
        seed=1,
    )
    alone = carry_out(tmp_path / "alone", config)
    sites = LocalSites({"only": Site(config)})
    together, metrics = across(tmp_path / "together", sites, Federation(at_least=1), config)
    first, second = delta_of(alone), delta_of(together)
    assert first.values.any()
    assert torch.equal(first.values, second.values)
    assert first.head.equals(second.head)
    assert {n: i.tolist() for n, i in first.support.indices.items()} == {
        n: i.tolist() for n, i in second.support.indices.items()
    }
    assert to_jsonable(metrics["finetuned"]) == alone.metrics.read()["finetuned"]  # type: ignore[index]


def test_the_result_is_a_run_and_every_site_writes_its_own(tmp_path: Path, data: Dataset) -> None:
    def site(name: str, number: int) -> Site:
        return Site(CONFIG, lambda config: RunFolder.create(tmp_path / name, config), data=share(data, number, 2))

    sites = LocalSites({"north": site("north", 0), "south": site("south", 1)})
    folder, metrics = across(tmp_path / "common", sites, data=data)
    report = metrics["federated"]
    assert report["rounds"] == 2
    assert report["left_out"] == []
    for row in report["sites"].values():
        assert row["rounds"] == 2
        assert row["sent"] > 4 * 40
        assert row["received"] > 4 * 40
    assert sum(row["images"] for row in report["sites"].values()) == len(data.train)
    assert "2 sites" in folder.state.read().message
    common = delta_of(folder)
    with pipeline.load_run(folder, "cpu") as loaded:
        assert loaded.reliability is not None
        assert loaded.ood_detector is not None
    for name in ("north", "south"):
        own = RunFolder.open(tmp_path / name)
        assert own.state.status == "finished"
        assert torch.equal(delta_of(own).values, common.values)
        assert own.reliability.read() is not None
        assert own.config.selection == CONFIG.selection
        assert all(each.finished for each in sites.sites.values())


def test_personal_heads_stay_at_the_sites(tmp_path: Path, data: Dataset) -> None:
    sites = local({"a": share(data, 0, 2), "b": share(data, 1, 2)})
    folder, metrics = across(tmp_path / "common", sites, Federation(personal_heads=True), data=data)
    own = [site.delta for site in sites.sites.values()]
    assert own[0] is not None
    assert own[1] is not None
    common = delta_of(folder)
    assert torch.equal(own[0].values, common.values)
    assert torch.equal(own[1].values, common.values)
    assert not own[0].head.equals(own[1].head)
    with_heads = across(tmp_path / "shared", local({"a": share(data, 0, 2), "b": share(data, 1, 2)}), data=data)[1]
    for name, row in metrics["federated"]["sites"].items():
        assert row["received"] < with_heads["federated"]["sites"][name]["received"]
    assert "head of its own" in folder.state.read().message


def test_a_site_may_lack_a_class(tmp_path: Path, data: Dataset) -> None:
    lacking = only(data, [row for row, label in enumerate(data.train.labels) if label != 2])
    two = replace(lacking, train=replace(lacking.train, classes=data.classes[:2]))
    for name in ("val", "test"):
        split = getattr(data, name)
        rows = [row for row, label in enumerate(split.labels) if label != 2]
        two = replace(two, **{name: replace(split.subset(rows), classes=data.classes[:2])})
    two = replace(two, classes=data.classes[:2])
    assert two.within(data.classes).train.counts()[data.classes[2]] == 0
    with pytest.raises(ClassMismatch, match="have the class"):
        data.within(("other", *data.classes[1:]))
    sites = local({"whole": share(data, 0, 2), "lacking": two})
    _, metrics = across(tmp_path / "common", sites, data=data)
    assert metrics["federated"]["left_out"] == []
    assert metrics["finetuned"]["macro_auroc"]["value"] > 0.5


def test_the_probe_of_a_missing_class_has_a_row(data: Dataset) -> None:
    from shpeft.backbones import create_backbone

    model = create_backbone("test_vit", classes=data.classes, weights="random", image_size=32)
    lacking = only(data, [row for row, label in enumerate(data.train.labels) if label])
    head = fit_linear_probe(model, lacking.train, data.val)
    assert head.weight.shape[0] == 3
    assert head.bias.isfinite().all()


class Faulty(LocalSites):
    """Sites of which some reply with something else, or not at all."""

    def __init__(self, sites: Mapping[str, Site], faults: Mapping[str, Fault]) -> None:
        super().__init__(sites)
        self.faults = faults

    def ask(self, requests: Mapping[str, bytes]) -> dict[str, bytes]:
        replies = super().ask(requests)
        for name, data in list(replies.items()):
            reply = Message.from_bytes(data)
            step, _, change, _ = self.faults.get(name, ("", "", None, ""))
            if reply.kind == step and change is not None:
                changed = change(reply)
                del replies[name]
                if changed is not None:
                    replies[name] = changed if isinstance(changed, bytes) else changed.to_bytes()
        return replies


def with_tensors(reply: Message, **tensors: torch.Tensor) -> Message:
    return replace(reply, tensors={**reply.tensors, **tensors})


def with_facts(reply: Message, **facts: Any) -> Message:
    return replace(reply, facts={**reply.facts, **facts})


FAULTS: tuple[Fault, ...] = (
    ("train", "round 1", lambda reply: with_tensors(reply, values=reply.tensors["values"] * math.nan), "not finite"),
    ("train", "round 1", lambda reply: with_tensors(reply, values=reply.tensors["values"] + 100), "times as far"),
    ("train", "round 1", lambda reply: with_tensors(reply, more=torch.zeros(100_000)), "at most"),
    ("train", "round 1", lambda reply: with_facts(reply, base="0" * 64), "another base"),
    ("train", "round 1", lambda reply: b"junk", "damaged"),
    ("train", "round 1", lambda reply: None, "in time"),
    ("score", "selection", lambda reply: with_tensors(reply, more=torch.zeros(100_000)), "at most"),
    ("score", "selection", lambda reply: with_facts(reply, base="0" * 64), "another base"),
    ("score", "selection", lambda reply: replace(reply, tensors={}), "no weights"),
    ("introduce", "introduction", lambda reply: with_facts(reply, images=-1), "introduction"),
)
"""The step at which a site fails, as it is reported, what it replies instead, and the reason that is named."""


def test_replies_that_cannot_be_used_are_left_out_and_training_goes_on(tmp_path: Path, data: Dataset) -> None:
    names = ["good", "sound", *(f"faulty-{number}" for number in range(len(FAULTS)))]
    config = tiny(training={"epochs": 1, "batch_size": 8}, selection={"budget": 40, "images": 8})
    parts = {name: share(data, at % 3, 3) for at, name in enumerate(names)}
    other = Site(tiny(backbone={"image_size": 64}), data=share(data, 2, 3), report=(lines := list[str]()).append)
    sites = Faulty({**local(parts, config).sites, "foreign": other}, dict(zip(names[2:], FAULTS, strict=True)))
    said = list[str]()
    _, metrics = across(tmp_path / "common", sites, config=config, data=data, report=said.append)
    rows = metrics["federated"]["left_out"]
    assert len(said) == len(rows)
    assert "Give this site the coordinator's backbone" in lines[0]
    for name, (_, step, _, reason) in zip(names[2:], FAULTS, strict=True):
        row = next(row for row in rows if row["site"] == name)
        assert row["step"] == step
        assert reason in row["reason"]
    assert {row["site"] for row in rows} == {*names[2:], "foreign"}
    assert metrics["federated"]["sites"]["good"]["rounds"] == 1
    assert metrics["federated"]["sites"]["faulty-0"]["rounds"] == 0


def test_too_few_sites_end_training(tmp_path: Path, data: Dataset) -> None:
    sites = Faulty(local({"a": share(data, 0, 2), "b": share(data, 1, 2)}).sites, {"b": FAULTS[5]})
    said = r"1 of at least 2 sites could be used in the round 1\. Left out: b: it did not reply"
    with pytest.raises(TrainingError, match=said):
        across(tmp_path / "common", sites, data=data)
    assert RunFolder.open(tmp_path / "common").state.status == "failed"


class Restarting(LocalSites):
    """Sites of which one is a new process after the first round."""

    def __init__(self, sites: Mapping[str, Site], again: Site) -> None:
        super().__init__(sites)
        self.again, self.trained = again, 0

    def ask(self, requests: Mapping[str, bytes]) -> dict[str, bytes]:
        kind = {Message.from_bytes(request).kind for request in requests.values()}
        replies = super().ask(requests)
        self.trained += kind == {"train"}
        if kind == {"train"} and self.trained == 1:
            self.sites["b"] = self.again
        return replies


def test_a_site_that_begins_anew_comes_back(tmp_path: Path, data: Dataset) -> None:
    config = tiny(training={"epochs": 3, "batch_size": 8}, selection={"budget": 40})
    parts = {name: share(data, at, 2) for at, name in enumerate("ab")}
    sites = Restarting(local(parts, config).sites, Site(config, data=parts["b"]))
    _, metrics = across(tmp_path / "common", sites, Federation(at_least=1), config, data=data)
    assert [row["step"] for row in metrics["federated"]["left_out"]] == ["round 2"]
    assert metrics["federated"]["sites"]["b"]["rounds"] == 2
    assert sites.again.finished


def test_local_epochs_make_fewer_rounds(tmp_path: Path, data: Dataset) -> None:
    config = tiny(training={"epochs": 3, "batch_size": 8}, selection={"score": "magnitude"})
    sites = local({"a": share(data, 0, 2), "b": share(data, 1, 2)}, config)
    folder, metrics = across(tmp_path / "common", sites, Federation(local_epochs=2), config, data=data)
    assert metrics["federated"]["rounds"] == 2
    assert [report.epoch for report in folder.history.read()] == [0, 2, 3]


def test_stopping_keeps_the_best_round(tmp_path: Path, data: Dataset) -> None:
    rounds = list[int]()
    sites = local({"a": share(data, 0, 2), "b": share(data, 1, 2)})
    folder, metrics = across(
        tmp_path / "common",
        sites,
        data=data,
        on_epoch=lambda report: rounds.append(report.epoch),
        stop=lambda: len(rounds) > 1,
    )
    assert metrics["federated"]["rounds"] == 1
    assert "Stopped after epoch 1 of 2" in folder.state.read().message


def test_a_site_that_is_left_alone_says_so(tmp_path: Path, data: Dataset) -> None:
    def cancel(stage: str, done: int, total: int) -> None:
        if "Round 2" in stage:
            raise Cancelled

    site = Site(CONFIG, lambda config: RunFolder.create(tmp_path / "own", config), data=data)
    with pytest.raises(Cancelled):
        across(tmp_path / "common", LocalSites({"a": site}), Federation(at_least=1), data=data, progress=cancel)
    with pytest.raises(KeyboardInterrupt), site:
        raise KeyboardInterrupt
    assert RunFolder.open(tmp_path / "own").state.status == "cancelled"
    with pytest.raises(RunError, match="cancelled"):
        pipeline.load_run(RunFolder.open(tmp_path / "own"))


@pytest.mark.parametrize(
    ("sections", "asked"),
    [
        ({"selection": {"budget": "auto"}}, "budget auto"),
        ({"selection": {"score": "wanda"}}, "score wanda"),
        ({"selection": {"formula": "quota"}}, "formula quota"),
        ({"training": {"average": "last_quarter"}}, "average last_quarter"),
    ],
)
def test_settings_that_need_all_images_are_refused(tmp_path: Path, sections: Any, asked: str) -> None:
    with pytest.raises(ConfigError, match=asked):
        across(tmp_path / "common", LocalSites({}), config=tiny(**sections))


def test_a_round_beyond_the_last_is_refused(tmp_path: Path, data: Dataset) -> None:
    class Further(LocalSites):
        def ask(self, requests: Mapping[str, bytes]) -> dict[str, bytes]:
            asked = {name: Message.from_bytes(request) for name, request in requests.items()}
            further = {
                name: with_facts(each, round=each.facts["round"] + 9) if each.kind == "train" else each
                for name, each in asked.items()
            }
            return super().ask({name: each.to_bytes() for name, each in further.items()})

    sites = {"a": Site(CONFIG, data=data, report=(lines := list[str]()).append)}
    with pytest.raises(TrainingError, match="it refused"):
        across(tmp_path / "common", Further(sites), Federation(at_least=1), data=data)
    assert lines[-1] == "The coordinator asks for round 10, and announced 2 epochs in all."


def test_a_task_without_classes_is_refused(tmp_path: Path) -> None:
    config = tiny(dataset={"source": "phantom:nodule?n=36&size=32"})
    with pytest.raises(ConfigError, match="one class for each image"):
        across(tmp_path / "common", LocalSites({}), config=config)


PRIVATE = tiny(training={"epochs": 2, "batch_size": 8}, selection={"budget": 40, "score": "magnitude"})


def test_private_training_says_what_it_spends(tmp_path: Path, data: Dataset) -> None:
    lines = list[str]()
    parts = {name: share(data, at, 3) for at, name in enumerate("abc")}
    sites = {name: Site(PRIVATE, data=part, max_epsilon=20) for name, part in parts.items()}
    sites["a"] = Site(PRIVATE, data=parts["a"], max_epsilon=20, report=(own := list[str]()).append)
    sites["c"] = Site(PRIVATE, data=parts["c"], max_epsilon=0.1, report=lines.append)
    heard = Hearing(sites)
    federation = Federation(noise=2.0, clip=1.0)
    folder, metrics = across(tmp_path / "common", heard, federation, PRIVATE, data=data)
    privacy = metrics["federated"]["privacy"]
    assert privacy["epsilon"].keys() == {"a", "b"}
    assert all(0 < epsilon < 20 for epsilon in privacy["epsilon"].values())
    assert "Record-level differential privacy of ε" in folder.state.read().message
    assert "this site takes part with ε of at most 0.1" in lines[0]
    assert {fact for reply in heard.replies for fact in reply.facts} == {"base", "images", "epsilon", "error"}
    assert not any("head/weight" in reply.tensors for reply in heard.replies if reply.kind == "introduce")
    assert all(math.isnan(report.loss) for report in folder.history.read())
    for reason in ("Scores of images are not private", "more rounds than it announced"):
        assert any(reason in line for line in own)
    again = Message.from_bytes(sites["a"].answer(heard.introduction))
    assert (again.kind, again.facts) == ("refusal", {"error": "TrainingError"})


def test_a_site_that_asks_for_privacy_takes_part_in_nothing_else(tmp_path: Path, data: Dataset) -> None:
    sites = LocalSites({"a": Site(CONFIG, data=data, max_epsilon=5, report=(lines := list[str]()).append)})
    with pytest.raises(TrainingError, match="it refused"):
        across(tmp_path / "common", sites, Federation(at_least=1), data=data)
    assert "The coordinator offers no privacy" in lines[0]


class Hearing(LocalSites):
    """Sites whose replies are noted; afterwards, the coordinator asks for what it must not have."""

    replies: tuple[Message, ...] = ()
    introduction = b""

    def ask(self, requests: Mapping[str, bytes]) -> dict[str, bytes]:
        replies = super().ask(requests)
        self.introduction = self.introduction or next(iter(requests.values()))
        self.replies += tuple(Message.from_bytes(reply) for reply in replies.values())
        kinds = {Message.from_bytes(request).kind for request in requests.values()}
        if kinds == {"finish"}:
            return replies
        if kinds == {"train"}:
            for name, request in requests.items():
                asked = Message.from_bytes(request)
                head = {key: tensor for key, tensor in asked.tensors.items() if key.startswith("head/")}
                for more in (Message("score", {}, head), *[asked] * (2 * (asked.facts["round"] == 1))):
                    extra = Message.from_bytes(self.sites[name].answer(more.to_bytes()))
                    assert (extra.kind, extra.facts) == ("refusal", {"error": "TrainingError"})
        return replies


@pytest.mark.parametrize(
    ("sections", "federation", "asked"),
    [
        ({}, {}, "score hybrid"),
        ({"selection": {"score": "magnitude"}}, {"personal_heads": True}, "personal heads"),
        ({"selection": {"score": "magnitude"}, "training": {"mixup": 0.2}}, {}, "mixup"),
        ({"selection": {"score": "magnitude"}, "training": {"balance": "loss"}}, {}, "balance"),
        ({"selection": {"score": "magnitude", "scope": "blocks"}}, {}, "scope blocks"),
        ({"selection": {"images": 256, "scope": "all"}}, {"selection_noise": 1.0}, "scope all"),
        ({"selection": {"score": "magnitude"}}, {"selection_noise": 1.0}, "score magnitude"),
        ({"selection": {"score": "fisher"}}, {"selection_noise": 1.0}, "score fisher, "),
        ({"selection": {"images": 16}}, {"selection_noise": 1.0}, r"selection\.images"),
        ({"selection": {"images": 256, "expectation": "batch"}}, {"selection_noise": 1.0}, r"selection\.expectation"),
    ],
)
def test_what_would_not_be_private_is_refused(
    tmp_path: Path, sections: dict[str, Any], federation: dict[str, Any], asked: str
) -> None:
    with pytest.raises(ConfigError, match=f"Private training is not offered with {asked}"):
        across(tmp_path / "common", LocalSites({}), Federation(noise=1.0, **federation), tiny(**sections))


def test_a_private_selection_without_private_training_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="protects no image where training is not private"):
        across(tmp_path / "common", LocalSites({}), Federation(selection_noise=1.0))
