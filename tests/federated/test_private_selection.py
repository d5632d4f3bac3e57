"""A support that sites agree on by private gradients: what it costs, what it leaves untouched, what is refused."""

from pathlib import Path
from typing import Any

import pytest
import torch

from shpeft.config.federation import Federation
from shpeft.datasets import Dataset, load_dataset
from shpeft.errors import TrainingError
from shpeft.importance import private_gradient
from shpeft.linear_probe import Head, fit_linear_probe
from shpeft.pipeline import setup
from shpeft.pipeline.federated import LocalSites, Message, Site, coordinate
from shpeft.pipeline.federated.privacy_budget import PrivacyBudget, check_budget_allowed
from shpeft.pipeline.federated.site import head_tensors
from shpeft.runs import RunFolder
from shpeft.training.private import Privacy
from tests.federated.conftest import local, share
from tests.pipeline.conftest import tiny

CONFIG = tiny(training={"epochs": 2, "batch_size": 8}, selection={"budget": 40, "images": 256})

FREE = tiny(training={"epochs": 2, "batch_size": 8}, selection={"budget": 40, "score": "magnitude"})

PAID = Federation(noise=2.0, selection_noise=1.0)

HEAD = Head(torch.ones(3, 64).tril() / 8, torch.zeros(3))
"""A head that no image made."""

ONE_QUERY = 4.7527
"""ε of one Gaussian query with z = 1, at δ = 1e-5."""


@pytest.fixture(scope="module")
def data() -> Dataset:
    return load_dataset("phantom:fundus?n=90&size=32", seed=0)


def chosen(folder: RunFolder) -> set[tuple[str, int]]:
    return {(name, at) for name, index in folder.scores.support().indices.items() for at in index.tolist()}


def test_sites_agree_on_a_support_by_private_gradients_and_say_what_it_costs(tmp_path: Path, data: Dataset) -> None:
    lines = list[str]()
    parts = {name: share(data, at, 2) for at, name in enumerate("ab")}
    sites = {name: Site(CONFIG, data=part, max_epsilon=30, report=lines.append) for name, part in parts.items()}
    folder = RunFolder.create(tmp_path / "paid", CONFIG)
    report = coordinate(CONFIG, PAID, folder, LocalSites(sites), data=data)["federated"]
    assert report["left_out"] == []
    assert all(row["rounds"] == 2 for row in report["sites"].values())
    assert all(site.finished for site in sites.values())
    budgets = {name: budget_of(PAID, len(part.train)) for name, part in parts.items()}
    privacy = report["privacy"]
    assert privacy["selection_noise"] == 1.0
    assert privacy["selection_epsilon"] == {name: pytest.approx(ONE_QUERY, abs=1e-4) for name in "ab"}
    assert privacy["epsilon"] == {name: pytest.approx(budget.planned, rel=1e-12) for name, budget in budgets.items()}
    alone = budget_of(Federation(noise=2.0), len(parts["a"].train)).planned
    assert max(alone, ONE_QUERY) < privacy["epsilon"]["a"] < alone + ONE_QUERY
    assert f"All requests together spend {budgets['a']}." in lines[0]
    message = folder.state.read().message
    assert f"ε {max(privacy['epsilon'].values()):.2f} at most" in message
    assert "The selection alone spends ε 4.75 of it" in message
    free = RunFolder.create(tmp_path / "free", FREE)
    coordinate(FREE, Federation(noise=2.0), free, local(parts, FREE), data=data)
    assert len(chosen(folder)) == len(chosen(free)) == 40
    assert chosen(folder) != chosen(free)


def budget_of(federation: Federation, images: int) -> PrivacyBudget:
    privacy = Privacy(federation.noise, federation.clip, federation.delta, federation.selection_noise)
    return PrivacyBudget(privacy, images, CONFIG.training)


def test_what_a_site_proposes_does_not_depend_on_its_linear_probe(
    data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fitted without noise, the probe says more than ε. With the same noise, the proposal keeps its bits."""
    monkeypatch.setattr(
        private_gradient, "secure_normal", lambda shape: torch.linspace(-1, 1, shape.numel()).view(shape)
    )
    replies = list[Message]()
    for factor in (1.0, -3.0):

        def scaled(*arguments: Any, factor: float = factor, **options: Any) -> Head:
            head = fit_linear_probe(*arguments, **options)
            return Head(head.weight * factor, head.bias * factor)

        monkeypatch.setattr(setup, "fit_linear_probe", scaled)
        site, *_ = introduced(data)
        replies.append(score(site))
    assert replies[0].kind == "score"
    assert replies[0].tensors["positions"].shape == (400,)
    for name in ("positions", "scores"):
        assert torch.equal(replies[0].tensors[name], replies[1].tensors[name])


def introduction(data: Dataset, federation: Federation) -> bytes:
    """Return the introduction of a coordinator with the sites' own backbone."""
    backbone, settings = setup.set_up(CONFIG, data=data).backbone, CONFIG.model_dump(mode="json")
    facts = {
        "settings": {name: settings[name] for name in ("selection", "training", "seed")},
        "classes": list(data.classes),
        "base": backbone.fingerprint,
        "transform": backbone.transform.to_dict(),
        "federation": federation.model_dump(),
    }
    return Message("introduce", facts).to_bytes()


def introduced(
    data: Dataset, federation: Federation = PAID, max_epsilon: float | None = None
) -> tuple[Site, Message, list[str]]:
    """Return a site to which a coordinator has introduced itself, its reply, and what it prints."""
    site = Site(CONFIG, data=data, max_epsilon=max_epsilon, report=(lines := list[str]()).append)
    return site, Message.from_bytes(site.answer(introduction(data, federation))), lines


def score(site: Site, head: Head = HEAD) -> Message:
    return Message.from_bytes(site.answer(Message("score", {}, head_tensors(head)).to_bytes()))


def test_scores_are_sent_once_and_by_a_site_that_has_spent_nothing(data: Dataset) -> None:
    site, _, lines = introduced(data)
    assert score(site).facts["epsilon"] == pytest.approx(ONE_QUERY, abs=1e-4)
    assert (score(site).kind, score(site).facts) == ("refusal", {"error": "TrainingError"})
    assert "asks for scores again" in lines[-1]
    assert Message.from_bytes(site.answer(introduction(data, PAID))).kind == "refusal"
    assert "another training would spend ε again" in lines[-1]


def test_a_site_checks_by_itself_that_nothing_else_is_asked_for(data: Dataset) -> None:
    """Under a head of its own, fitted without noise, gradients would say more than ε."""
    _, reply, lines = introduced(data, Federation(noise=2.0, selection_noise=1.0, personal_heads=True))
    assert (reply.kind, reply.facts) == ("refusal", {"error": "ConfigError"})
    assert "Private training is not offered with personal heads" in lines[0]


def test_a_head_of_another_shape_spends_nothing(data: Dataset) -> None:
    site, _, lines = introduced(data)
    assert score(site, Head(torch.ones(2, 64), torch.zeros(2))).kind == "refusal"
    assert "another shape" in lines[-1]
    assert score(site).kind == "score"


def test_the_sum_alone_may_be_more_than_a_site_allows(data: Dataset) -> None:
    images = len(data.train)
    budget, training = budget_of(PAID, images), budget_of(Federation(noise=2.0), images).planned
    between = (max(ONE_QUERY, training) + budget.planned) / 2
    assert max(ONE_QUERY, training) < between < budget.planned
    _, reply, lines = introduced(data, PAID, between)
    assert (reply.kind, reply.facts) == ("refusal", {"error": "TrainingError"})
    assert f"this site takes part with ε of at most {between:g}" in lines[0]
    assert f"{ONE_QUERY:.2f} alone for the selection, {training:.2f} alone for training" in lines[0]
    for federation in (Federation(noise=2.0), Federation(noise=1e3, selection_noise=1.0)):
        check_budget_allowed(budget_of(federation, images), between)
    check_budget_allowed(budget, budget.planned)


def test_a_budget_is_spent_in_parts_and_never_twice() -> None:
    budget = budget_of(PAID, 80)
    assert budget.spent == 0
    budget.spend_training(1)
    first = budget.spent
    budget.spend_selection()
    second = budget.spent
    budget.spend_training(1)
    assert 0 < first < second < budget.spent == budget.planned
    with pytest.raises(TrainingError, match="again"):
        budget.spend_selection()
    with pytest.raises(TrainingError, match="more rounds than it announced"):
        budget.spend_training(1)
    assert budget.spent == budget.planned


def test_without_a_selection_it_is_the_budget_of_training() -> None:
    free, nearly = budget_of(Federation(noise=2.0), 80), budget_of(Federation(noise=2.0, selection_noise=1e4), 80)
    assert nearly.planned == pytest.approx(free.planned, abs=3e-6)
    with pytest.raises(TrainingError, match="not private"):
        free.spend_selection()
