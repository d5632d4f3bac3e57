"""The coordinator: it agrees with the sites on one support, averages what they train, and writes a run folder.

Its own images say what the task is, choose the round, and test and calibrate the result, as in any other run.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeGuard

import numpy as np
import torch
from torch import Tensor

from shpeft.config.federation import Federation
from shpeft.config.schema import RunConfig
from shpeft.datasets import Dataset
from shpeft.delta.sparse_delta import SparseDelta
from shpeft.delta.trainable import lr_scale
from shpeft.errors import Cancelled, ConfigError, ShpeftError, TrainingError
from shpeft.evaluation.by_task import validation_scores
from shpeft.evaluation.predict import predict
from shpeft.forward.base import ForwardPass
from shpeft.importance.scores import Scores, estimate_importance, hybrid, squared_gradients
from shpeft.linear_probe import Head, fit_linear_probe
from shpeft.pipeline.federated.agreement import SHORTLIST, Proposal, pooled_scores
from shpeft.pipeline.federated.combination import Update, combine
from shpeft.pipeline.federated.exchange import Exchange, Sites
from shpeft.pipeline.federated.messages import OVERHEAD, Message
from shpeft.pipeline.federated.privacy_budget import privacy_of
from shpeft.pipeline.federated.requests import LR_SCALE, SUPPORT, VALUES, Settings
from shpeft.pipeline.federated.settings import PUBLIC, check_settings
from shpeft.pipeline.federated.site import PRESENT, head_tensors, read_head
from shpeft.pipeline.progress import RunProgress
from shpeft.pipeline.run_facts import remarks_on
from shpeft.pipeline.run_pipeline import finish, predict_probe
from shpeft.pipeline.setup import RunSetup, forward_pass_for, set_up
from shpeft.pipeline.weight_selection import Selection, record_selection, score_weights, select_from
from shpeft.pipeline.weight_training import Trained
from shpeft.runs import RunFolder
from shpeft.selection.top_k import check_budget
from shpeft.support.progress import Progress, silent
from shpeft.tasks import SingleLabel
from shpeft.training.loop import EpochReport, never
from shpeft.training.loss import TrainingLoss


@dataclass(frozen=True, eq=False)
class _Member:
    """A site that takes part.

    Attributes:
        images: the number of its training images.
        present: (C,) bool, the classes that it has images of.
        probe: its linear probe; None where each site keeps its head.
    """

    images: int
    present: Tensor
    probe: Head | None


def coordinate(
    config: RunConfig,
    federation: Federation,
    folder: RunFolder,
    sites: Sites,
    *,
    data: Dataset | None = None,
    progress: Progress = silent,
    on_epoch: Callable[[EpochReport], None] | None = None,
    report: Callable[[str], None] = lambda line: None,
    stop: Callable[[], bool] = never,
) -> dict[str, Any]:
    """Train one model across sites, and write it as a run.

    Args:
        config: of the run. Its images are the coordinator's own: their training images take no part in training.
        federation: how the sites train together.
        folder: the folder of the run.
        sites: how the sites are reached.
        data: the coordinator's images; None: those of the configuration.
        progress: the progress callback; it cancels the run by raising ``Cancelled``.
        on_epoch: called after each round.
        report: called with a sentence about each reply that is not used.
        stop: called before each round; True ends training, and the best round so far is tested.

    Returns:
        the content of ``metrics.json``; ``federated`` has the sites, what was left out, and the bytes.

    Raises:
        ConfigError: a setting that is not offered across sites.
        TrainingError: fewer sites than ``federation.at_least`` can be used.
        ShpeftError: a stage failed; the folder's state has the message.

    Examples:
        >>> import tempfile
        >>> import shpeft
        >>> from shpeft.config.federation import Federation
        >>> from shpeft.pipeline.federated import LocalSites, Site, coordinate
        >>> config = shpeft.RunConfig.parse(
        ...     {
        ...         "dataset": {"source": "phantom:fundus?n=36&size=64"},
        ...         "backbone": {"name": "test_vit", "weights": "random", "image_size": 32},
        ...         "selection": {"budget": 40, "images": 8},
        ...         "training": {"epochs": 1},
        ...     }
        ... )
        >>> sites = LocalSites({"north": Site(config), "south": Site(config)})
        >>> with tempfile.TemporaryDirectory() as root:
        ...     folder = shpeft.RunFolder.create(f"{root}/across", config)
        ...     metrics = coordinate(config, Federation(), folder, sites)
        >>> metrics["weights"]["selected"], list(metrics["federated"]["sites"])
        (40, ['north', 'south'])
    """
    check_settings(config, federation)
    with folder.state.recording() as remarks, ExitStack() as stack:

        def show(stage: str, done: int, total: int) -> None:
            folder.state.record_progress(stage, done, total)
            progress(stage, done, total)
            if folder.state.end_request == "discard":
                raise Cancelled

        folder.write_environment()
        meter = RunProgress(show)
        setup = set_up(config, meter, folder.path, data=data)
        stack.callback(setup.forward_pass.close)
        if not isinstance(setup.data.task, SingleLabel):
            raise ConfigError(
                f"Training across sites needs one class for each image; these images are {setup.data.task.name}."
            )
        probe = predict_probe(setup, meter)
        work = _Coordination(config, federation, setup, meter, Exchange(sites, report))
        work.introduce()
        head = work.common_head()
        chosen = select_from(work.agree(head), work.budget, config, setup, meter)
        support = chosen.supports["hybrid"]
        record_selection(folder, chosen.supports, chosen.scores.infos, chosen.details, chosen.summaries)
        squares = squared_gradients(chosen.scores, config.selection.score, support.indices, config.selection.norm)
        scale = lr_scale(setup.backbone, support, config.training.lr_scale, squares)
        forward_pass = forward_pass_for(
            config, setup.backbone, support.indices, folder.path, setup.forward_pass, checkpointing=setup.checkpointing
        )
        if forward_pass is not setup.forward_pass:
            setup.forward_pass.close()
            stack.callback(forward_pass.close)
        delta = SparseDelta.zeros(setup.backbone, support, head)
        indices = {SUPPORT + name: index.to(torch.int32) for name, index in support.indices.items()}
        work.brought = Message(
            "", {"score": chosen.scores.name}, {**indices, **({} if scale is None else {LR_SCALE: scale})}
        )
        history = list[EpochReport]()
        for report_, best in work.rounds(delta, forward_pass, stop):
            history.append(report_)
            delta = best
            folder.history.write(history)
            if on_epoch is not None:
                on_epoch(report_)
        work.tell_result(delta)
        meter.lap("fine-tuning")
        selected = Selection(
            support, chosen.scores.name, chosen.scores.eligible, config.training.lr, folder.checkpoint, None
        )
        trained = Trained(selected, delta, history)
        remarks += [*remarks_on(config, trained, setup), work.remark()]
        return finish(
            config, setup, trained, forward_pass, probe, folder, meter, remarks, {"federated": work.summary()}
        )


class _Coordination:
    """What the coordinator and the sites have agreed on so far."""

    def __init__(
        self, config: RunConfig, federation: Federation, setup: RunSetup, meter: RunProgress, exchange: Exchange
    ) -> None:
        self.config, self.federation, self.setup, self.meter, self.exchange = config, federation, setup, meter, exchange
        self.members: dict[str, _Member] = {}
        self.images: dict[str, int] = {}
        self.informed: set[str] = set()
        self.brought = Message("")
        self.base = setup.backbone.fingerprint
        self.count = federation.rounds(config.training.epochs)
        self.done, self.loss = 0, math.nan
        self.epsilon: dict[str, Any] = {}
        self.selection_epsilon: dict[str, Any] = {}
        head = Head.of(setup.backbone)
        self._head_bytes = 4 * (head.weight.numel() + head.bias.numel()) + len(head.bias) + OVERHEAD

    @property
    def budget(self) -> int | float:
        """The number or share of weights to select."""
        budget = self.config.selection.budget
        assert not isinstance(budget, str)
        return budget

    def introduce(self, step: str = "introduction") -> None:
        """Tell sites that are new what will be trained, and learn how many images each has."""
        dump = self.config.model_dump(mode="json")
        request = Message(
            "introduce",
            {
                "settings": {name: dump[name] for name in Settings.model_fields},
                "classes": list(self.setup.data.classes),
                "base": self.base,
                "transform": self.setup.backbone.transform.to_dict(),
                "federation": self.federation.model_dump(),
            },
        )
        new = [name for name in self.exchange.sites.present() if name not in self.members]
        replies = self._ask(step, dict.fromkeys(new, request), self._head_bytes) if new else {}
        for name, reply in replies.items():
            try:
                self.members[name] = self._member(reply)
                self.images[name] = self.members[name].images
            except ShpeftError as error:
                self.exchange.leave_out(step, name, str(error))
        self._check_enough(len(self.members), step)

    def common_head(self) -> Head:
        """Return the head that training begins with: the mean of the sites' linear probes, or the coordinator's own.

        It is the coordinator's where the sites' are personal, or say too much about their images.
        """
        if self.federation.personal_heads or self.federation.noise:
            return self.setup.probe
        own = self.setup.probe
        zero = torch.zeros(0)
        updates = {
            name: Update(zero, member.probe, member.images, member.present) for name, member in self.members.items()
        }
        mean = combine(updates, zero, own).head
        assert mean is not None
        return mean

    def agree(self, head: Head) -> Scores:
        """Return the scores that select the support: of public ones the coordinator's own, else those of all sites."""
        options, setup = self.config.selection, self.setup
        if options.score in PUBLIC:
            return score_weights(self.config, setup, self.meter)
        self.meter.part("Scoring at the sites")
        infos = setup.backbone.weight_infos(options.scope)
        eligible, total = sum(info.numel for info in infos), setup.backbone.weight_count
        k = check_budget(self.budget, eligible, total)
        most = 12 * min(SHORTLIST * k, eligible) + OVERHEAD
        request = Message("score", {}, {} if self.federation.personal_heads else head_tensors(head))
        proposals = list[Proposal]()
        for name, reply in self._ask("selection", dict.fromkeys(self.members, request), most).items():
            self.epsilon[name] = self.selection_epsilon[name] = reply.facts.get("epsilon")
            try:
                positions, scores = (reply.tensors.get(key, torch.zeros(0)) for key in ("positions", "scores"))
                proposal = Proposal(positions.long(), scores.float(), self.members[name].images)
                proposal.check(eligible)
                proposals.append(proposal)
            except ShpeftError as error:
                self.exchange.leave_out("selection", name, str(error))
        self._check_enough(len(proposals), "selection")
        pooled = pooled_scores(proposals, infos, total)
        if options.score != "hybrid":
            return replace(pooled, name=options.score)
        agnostic = estimate_importance(
            setup.backbone, setup.data.train, "magnitude", norm=options.norm, scope=options.scope
        )
        return hybrid(
            pooled, agnostic, "product", exponent=options.exponent, name=f"hybrid product of {len(proposals)} sites"
        )

    def rounds(
        self, delta: SparseDelta, forward_pass: ForwardPass, stop: Callable[[], bool]
    ) -> Iterator[tuple[EpochReport, SparseDelta]]:
        """Train; yield for the start and for each round its report and the best delta so far."""
        began, best, lowest = time.monotonic(), delta, math.inf
        for done in range(self.count + 1):
            if done:
                if stop():
                    return
                delta = self._round(done - 1, delta)
                self.done = done
            measured, delta = self._validate(delta, forward_pass)
            wins = measured[0] < lowest
            if wins:
                lowest, best = measured[0], delta
            epochs = self.config.training.epochs
            epoch = min(done * self.federation.local_epochs, epochs)
            yield EpochReport(epoch, epochs, self.loss, *measured, time.monotonic() - began, best=wins), best

    def tell_result(self, delta: SparseDelta) -> None:
        """Send the result to every site, which tests it on its own images."""
        self.meter.part("Testing at the sites")
        self._ask("result", {name: self._request("finish", name, delta) for name in self.members}, OVERHEAD)

    def summary(self) -> dict[str, Any]:
        """Return what ``metrics.json`` says about the sites."""
        privacy = privacy_of(self.federation)
        rows = {
            name: {"images": self.images.get(name, 0), **asdict(traffic)}
            for name, traffic in self.exchange.traffic.items()
        }
        return {
            "sites": rows,
            "rounds": self.done,
            "local_epochs": self.federation.local_epochs,
            "personal_heads": self.federation.personal_heads,
            "left_out": self.exchange.left_out,
            "privacy": None
            if privacy is None
            else {
                **asdict(privacy),
                "epsilon": _numbers(self.epsilon),
                "selection_epsilon": _numbers(self.selection_epsilon),
            },
        }

    def remark(self) -> str:
        """Return the remark on the sites for the message of the finished run."""
        used = [name for name, traffic in self.exchange.traffic.items() if traffic.rounds]
        images = sum(self.images[name] for name in used)
        text = f"Trained across {len(used)} sites with {images:,} training images, in {self.done} rounds."
        if self.exchange.left_out:
            text += f" {len(self.exchange.left_out)} replies were left out."
        if self.federation.noise and (spent := _numbers(self.epsilon)):
            text += (
                f" Record-level differential privacy of ε {max(spent.values()):.2f} at most, by site, and δ "
                f"{self.federation.delta:g}."
            )
            if selection := _numbers(self.selection_epsilon):
                text += f" The selection alone spends ε {max(selection.values()):.2f} of it."
        if self.federation.personal_heads:
            text += " Each site has a head of its own; the head of this run is fitted on the coordinator's images."
        return text

    def _round(self, number: int, delta: SparseDelta) -> SparseDelta:
        """Let the sites train from a delta, and return the mean of what they made of it."""
        step = f"round {number + 1}"
        self.meter.part(f"Round {number + 1} of {self.count}")
        self.introduce(step)
        most = 4 * delta.k + self._head_bytes
        requests = {name: self._request("train", name, delta, round=number) for name in self.members}
        updates, losses = {}, {}
        for name, reply in self._ask(step, requests, most).items():
            self.informed.add(name)
            losses[name] = reply.facts.get("loss")
            self.epsilon[name] = reply.facts.get("epsilon")
            member = self.members[name]
            try:
                head = None if self.federation.personal_heads else read_head(reply)
            except ShpeftError as error:
                self.exchange.leave_out(step, name, str(error))
                continue
            values = reply.tensors.get("values", torch.zeros(0)).to(delta.values.dtype)
            updates[name] = Update(values, head, member.images, member.present)
        combined = combine(updates, delta.values, None if self.federation.personal_heads else delta.head)
        for name, reason in combined.left_out.items():
            self.exchange.leave_out(step, name, reason)
        self._check_enough(len(combined.used), step)
        for name in combined.used:
            self.exchange.traffic[name].rounds += 1
        known = [(loss, self.members[name].images) for name in combined.used if _is_number(loss := losses[name])]
        images = sum(count for _, count in known)
        self.loss = sum(loss * count for loss, count in known) / images if images else math.nan
        return replace(delta, values=combined.values, head=combined.head or delta.head)

    def _validate(
        self, delta: SparseDelta, forward_pass: ForwardPass
    ) -> tuple[tuple[float, float, float], SparseDelta]:
        """Return validation loss, AUROC and balanced accuracy on the coordinator's images, and what was measured.

        Where each site has its own head, so does the coordinator: a linear probe under the common values.
        """
        setup, data = self.setup, self.setup.data
        if self.federation.personal_heads:
            with delta.applied(setup.backbone):
                head = fit_linear_probe(setup.backbone, data.train, data.val, forward_pass=forward_pass)
            delta = replace(delta, head=head)
        with delta.applied(setup.backbone):
            predictions = predict(setup.backbone, data.val, forward_pass=forward_pass)
        if not np.isfinite(predictions.probabilities).all():
            return (math.nan, math.nan, math.nan), delta
        loss = TrainingLoss.of(data.train, self.config.training.balance, self.config.training.label_smoothing)
        return (loss.validation(predictions), *validation_scores(predictions)), delta

    def _request(self, kind: str, site: str, delta: SparseDelta, **facts: int) -> Message:
        """Return a request with a delta, and with its support for a site that does not know it yet."""
        tensors = {VALUES: delta.values}
        if not self.federation.personal_heads:
            tensors |= head_tensors(delta.head)
        known = site in self.informed
        return Message(
            kind,
            {**facts, **({} if known else self.brought.facts)},
            {**tensors, **({} if known else self.brought.tensors)},
        )

    def _ask(self, step: str, requests: dict[str, Message], most: int) -> dict[str, Message]:
        """Ask sites, and forget those that refuse: they are introduced anew before the next round."""
        before = len(self.exchange.left_out)
        replies = self.exchange.ask(step, requests, most)
        for row in self.exchange.left_out[before:]:
            if row["reason"].startswith("it refused"):
                self.members.pop(row["site"], None)
                self.informed.discard(row["site"])
        for name in list(replies):
            if replies[name].kind != "finish" and replies[name].facts.get("base") != self.base:
                self.exchange.leave_out(step, name, "it trains on another base")
                del replies[name]
        return replies

    def _member(self, reply: Message) -> _Member:
        """Read the introduction of a site.

        Raises:
            TrainingError: it is none.
        """
        images, present = reply.facts.get("images"), reply.tensors.get(PRESENT, torch.zeros(0)).bool()
        if type(images) is not int or images < 1 or present.shape != (len(self.setup.data.classes),):
            raise TrainingError("its introduction does not say how many images of which classes it has")
        without = self.federation.personal_heads or self.federation.noise
        return _Member(images, present, None if without else read_head(reply))

    def _check_enough(self, usable: int, step: str) -> None:
        """Check that enough sites take part.

        Raises:
            TrainingError: there are fewer.
        """
        if usable < self.federation.at_least:
            reasons = [f"{row['site']}: {row['reason']}" for row in self.exchange.left_out if row["step"] == step]
            said = f" Left out: {'; '.join(reasons)}." if reasons else ""
            raise TrainingError(
                f"{usable} of at least {self.federation.at_least} sites could be used in the {step}.{said} Ask the "
                "sites to connect, or lower --at-least."
            )


def _numbers(facts: dict[str, Any]) -> dict[str, float]:
    return {name: value for name, value in facts.items() if _is_number(value)}


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, float) and math.isfinite(value)
