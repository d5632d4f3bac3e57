"""A site: its images stay where they are, and it answers the coordinator's requests."""

import math
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing, nullcontext, suppress
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from shpeft.config.schema import RunConfig
from shpeft.datasets import Dataset
from shpeft.delta.sparse_delta import SparseDelta
from shpeft.errors import BaseMismatch, DatasetError, Interrupted, ShpeftError, TrainingError
from shpeft.forward.base import ForwardPass
from shpeft.importance.private_gradient import private_scores
from shpeft.importance.scores import Scores
from shpeft.linear_probe import Head
from shpeft.pipeline.federated.agreement import propose
from shpeft.pipeline.federated.messages import Message
from shpeft.pipeline.federated.privacy_budget import PrivacyBudget, check_budget_allowed, privacy_of
from shpeft.pipeline.federated.requests import (
    LR_SCALE,
    SUPPORT,
    VALUES,
    Introduction,
    Result,
    Scoring,
    Training,
    check_request,
)
from shpeft.pipeline.federated.settings import check_settings
from shpeft.pipeline.progress import RunProgress
from shpeft.pipeline.run_pipeline import finish, predict_probe
from shpeft.pipeline.setup import RunSetup, forward_pass_for, load_images, set_up
from shpeft.pipeline.weight_selection import Selection, score_weights
from shpeft.pipeline.weight_training import Trained, finetune_as
from shpeft.runs import RunFolder
from shpeft.selection.top_k import Support, check_budget
from shpeft.support.jsonable import to_jsonable
from shpeft.support.progress import Progress, silent
from shpeft.training.checkpoint import Checkpoint, EpochReport, fingerprints
from shpeft.training.private import PrivateState, train_privately

PRESENT = "present"
"""The tensor that says which classes a site has images of."""

Reply = tuple[Mapping[str, Any], Mapping[str, Tensor]]
"""The facts and the tensors of a site's reply."""


@dataclass
class _Work:
    """What a site knows after its introduction.

    Attributes:
        config: of this site, with what the coordinator decides.
        remarks: for the message of the finished run.
        personal: whether the site keeps a head of its own.
        epochs: those of a round.
        head: the head that training goes on with, where it is personal.
    """

    config: RunConfig
    setup: RunSetup
    meter: RunProgress
    folder: RunFolder | None
    remarks: list[str]
    personal: bool
    epochs: int
    head: Head
    forward_pass: ForwardPass
    support: Support | None = None
    score: str = ""
    lr_scale: Tensor | None = None
    moments: tuple[dict[str, Tensor], ...] = ()
    budget: PrivacyBudget | None = None
    private: PrivateState | None = None
    history: tuple[EpochReport, ...] = ()


class Site:
    """One hospital's part in training one model across several.

    Attributes:
        finished: whether the result has arrived; with a run folder, it has been tested and written there.
        delta: the result; None before.
    """

    def __init__(
        self,
        config: RunConfig,
        open_folder: Callable[[RunConfig], RunFolder] | None = None,
        *,
        data: Dataset | None = None,
        max_epsilon: float | None = None,
        progress: Progress = silent,
        report: Callable[[str], None] = lambda line: None,
    ) -> None:
        """Describe a site; nothing is loaded before the coordinator asks.

        Args:
            config: its images, backbone, decision rules and device; the coordinator decides the rest.
            open_folder: makes the run folder, once the configuration is complete; None: nothing is written.
            data: the images; None: those of the configuration.
            max_epsilon: the site takes part with record-level differential privacy alone, of at most this ε.
            progress: the progress callback.
            report: called with a sentence about what happens.
        """
        self.config, self.finished = config, False
        self.delta: SparseDelta | None = None
        self._open_folder, self._data, self._progress, self._report = open_folder, data, progress, report
        self._max_epsilon, self._has_spent = max_epsilon, False
        self._cleanup = ExitStack()
        self._work: _Work | None = None

    def __repr__(self) -> str:
        return f"Site({self.config.dataset.source}, {'finished' if self.finished else 'waiting'})"

    def __enter__(self) -> "Site":
        return self

    def __exit__(self, *error: Any) -> None:
        self._cleanup.__exit__(*error)

    def answer(self, request: bytes) -> bytes:
        """Answer a request; an error is told here in a sentence, and there by its kind alone."""
        steps: dict[str, Callable[[Message, Any], Reply]] = {
            "introduce": self._introduce,
            "score": self._score,
            "train": self._train,
            "finish": self._finish,
        }
        try:
            message = Message.from_bytes(request)
            return Message(message.kind, *steps[message.kind](message, check_request(message))).to_bytes()
        except ShpeftError as error:
            self._report(str(error))
            return Message("refusal", {"error": type(error).__name__}).to_bytes()

    def _introduce(self, _: Message, facts: Introduction) -> Reply:
        """Take the coordinator's settings, load the images and the backbone, and fit the linear probe."""
        if self._has_spent:
            raise TrainingError(
                "This site has trained privately already, and another training would spend ε again. Start the site "
                "again if you agree to that."
            )
        if self._work is not None:
            self._abandon(Interrupted("The coordinator began anew."))
        config = RunConfig.parse(self.config.model_dump() | facts.settings.model_dump())
        check_settings(config, facts.federation)  # privacy is the site's to keep, whatever the coordinator has checked
        folder, remarks = None, list[str]()
        with ExitStack() as stack:
            if self._open_folder is not None:
                folder = self._open_folder(config)
                remarks = stack.enter_context(folder.state.recording())
                folder.write_environment()
            meter = RunProgress(self._reporter(folder))
            data = (self._data or load_images(config, meter)).within(facts.classes)
            counts = data.train.counts()
            if sum(count > 0 for count in counts.values()) < 2:
                raise DatasetError("A site needs training images of at least two classes.")
            privacy = privacy_of(facts.federation)
            budget = None if privacy is None else PrivacyBudget(privacy, len(data.train), config.training)
            check_budget_allowed(budget, self._max_epsilon)
            setup = set_up(config, meter, None if folder is None else folder.path, data=data)
            stack.callback(setup.forward_pass.close)
            base, transform = setup.backbone.fingerprint, to_jsonable(setup.backbone.transform.to_dict())
            if base != facts.base or transform != facts.transform:
                raise BaseMismatch(
                    f"The coordinator trains on base {facts.base[:12]} with another backbone, weights or image size; "
                    f"this site has {setup.backbone.name} at {setup.backbone.image_size} px, base {base[:12]}. "
                    "Give this site the coordinator's backbone."
                )
            self._cleanup = stack.pop_all()
        personal, epochs = facts.federation.personal_heads, facts.federation.local_epochs
        self._work = _Work(config, setup, meter, folder, remarks, personal, epochs, setup.probe, setup.forward_pass)
        self._work.budget = budget
        spent = "" if budget is None else f" All requests together spend {budget}."
        self._report(f"Taking part with {len(data.train):,} training images.{spent}")
        tensors = {} if personal or budget else head_tensors(setup.probe)
        present = torch.tensor([counts[name] > 0 for name in facts.classes])
        return {"base": base, "images": len(data.train)}, {**tensors, PRESENT: present}

    def _score(self, request: Message, _: Scoring) -> Reply:
        """Propose the best weights, scored under the common head, or under this site's own."""
        work = self._introduced()
        head = work.setup.probe if work.personal else self._shared_head(request)
        spent = {}
        if work.budget is None:
            scores = score_weights(work.config, replace(work.setup, probe=head), work.meter)
        else:
            scores = self._score_privately(work.budget, head)
            spent["epsilon"] = work.budget.spent
        budget = work.config.selection.budget
        assert not isinstance(budget, str)
        k = check_budget(budget, scores.eligible, scores.total)
        proposal = propose(scores, k, len(work.setup.data.train), work.config.selection.spread)
        positions = proposal.positions.to(torch.int32 if scores.eligible < 2**31 else torch.int64)
        facts = {"base": work.setup.backbone.fingerprint, **spent}
        return facts, {"positions": positions, "scores": proposal.scores}

    def _score_privately(self, budget: PrivacyBudget, head: Head) -> Scores:
        """Score the weights by the private gradient under the coordinator's head, which no image of this site made."""
        work, privacy = self._introduced(), budget.privacy
        budget.spend_selection()
        self._has_spent = True
        setup = work.setup
        with setup.backbone.checkpointing() if setup.checkpointing else nullcontext():
            scores = private_scores(
                setup.forward_pass,
                setup.data.train,
                head,
                work.config.selection,
                noise=privacy.selection_noise,
                clip=privacy.clip,
                progress=work.meter.part("Scoring the weights privately", setup.plan.scoring),
            )
        self._report(f"Spent on the selection: ε {budget.spent:.2f} at δ {privacy.delta:g}.")
        return scores

    def _train(self, request: Message, facts: Training) -> Reply:
        """Train the values and the head for the epochs of a round, from what the coordinator sends."""
        work, number = self._introduced(), facts.round
        self._take_support(request, facts.score)
        head = work.head if work.personal else self._shared_head(request)
        delta = self._delta(request, head)
        total, before = work.config.training.epochs, number * work.epochs
        epochs = min(work.epochs, total - before)
        if epochs < 1:
            raise TrainingError(f"The coordinator asks for round {number + 1}, and announced {total} epochs in all.")
        if work.budget is not None:
            return self._train_privately(work.budget, delta, head, epochs)
        past = EpochReport(before, total, math.nan, math.nan, math.nan, math.nan, 0.0, best=True)
        state = Checkpoint(
            delta.base,
            fingerprints(work.setup.data),
            delta.values,
            head,
            delta.values,
            head,
            work.moments,
            (past,),
            lr_scale=work.lr_scale,
        )
        trained = [state]
        reports = finetune_as(
            work.config,
            work.setup,
            delta,
            work.forward_pass,
            keep_start=False,
            progress=work.meter.part(f"Round {number + 1}", work.setup.plan.epoch * epochs),
            resume=state,
            on_checkpoint=trained.append,
        )
        with closing(reports):  # type: ignore[type-var]
            work.history += tuple(islice(reports, epochs))
        state = trained[-1]
        work.moments, work.head = state.moments, state.head
        if work.folder is not None:
            work.folder.history.write(work.history)
        self._report(f"Round {number + 1}, of this site alone: {work.history[-1]}")
        losses = [report.loss for report in work.history[-epochs:]]
        return {"base": delta.base, "loss": sum(losses) / len(losses)}, {
            "values": state.values,
            **({} if work.personal else head_tensors(state.head)),
        }

    def _train_privately(self, budget: PrivacyBudget, delta: SparseDelta, head: Head, epochs: int) -> Reply:
        """Train a round with noise; the loss, which would say more than ε, stays here."""
        work, options = self._introduced(), self._introduced().config.training
        before = work.private or PrivateState(delta.values, head)
        budget.spend_training(epochs)
        self._has_spent = True
        work.private = train_privately(
            work.forward_pass,
            delta,
            work.setup.data,
            replace(before, values=delta.values, head=head),
            budget.privacy,
            epochs=epochs,
            total_epochs=options.epochs,
            batch_size=options.batch_size,
            lr=options.lr,
            head_lr=options.head_lr,
            weight_decay=options.weight_decay,
            warmup=options.warmup,
            progress=work.meter.part("A private round", work.setup.plan.epoch * epochs),
        )
        self._report(f"Spent so far: ε {budget.spent:.2f} at δ {budget.privacy.delta:g}.")
        return {"base": delta.base, "epsilon": budget.spent}, {
            "values": work.private.values,
            **head_tensors(work.private.head),
        }

    def _finish(self, request: Message, facts: Result) -> Reply:
        """Take the result, test it on this site's images, and write the run folder."""
        work = self._introduced()
        self._take_support(request, facts.score)
        assert work.support is not None
        self.delta = self._delta(request, work.head if work.personal else self._shared_head(request))
        if work.folder is not None:
            best = replace(work.history[-1], best=True) if work.history else None
            history = [*work.history[:-1], *([best] if best else [])]
            work.folder.history.write(history)
            probe = predict_probe(work.setup, work.meter)
            infos = work.setup.backbone.weight_infos(work.config.selection.scope)
            work.folder.scores.write_supports({"hybrid": work.support}, infos)
            selected = Selection(
                work.support,
                work.score,
                sum(info.numel for info in infos),
                work.config.training.lr,
                work.folder.checkpoint,
                None,
            )
            trained = Trained(selected, self.delta, history)
            work.remarks.append("Trained across sites: the values are those of the round that the coordinator chose.")
            finish(work.config, work.setup, trained, work.forward_pass, probe, work.folder, work.meter, work.remarks)
        self._cleanup.close()
        self.finished, self._work = True, None
        return {}, {}

    def _abandon(self, error: Exception) -> None:
        """Record that the run did not end as it should."""
        self._work = None
        with suppress(type(error)):
            self._cleanup.__exit__(type(error), error, None)

    def _introduced(self) -> _Work:
        if self._work is None:
            raise TrainingError("The coordinator asks before it has introduced itself; it will do so.")
        return self._work

    def _shared_head(self, request: Message) -> Head:
        """Return the head of a request.

        Raises:
            TrainingError: it has none, or one of another shape.
        """
        head, own = read_head(request), Head.of(self._introduced().setup.backbone)
        if (head.weight.shape, head.bias.shape) != (own.weight.shape, own.bias.shape):
            raise TrainingError("The coordinator's head has another shape than this backbone's.")
        return head

    def _take_support(self, request: Message, score: str | None) -> None:
        """Take the selected weights, where the request brings them.

        Raises:
            SelectionError: they are not among this backbone's weights.
            TrainingError: they are none, and none came before; or their factors are not one for each.
        """
        work = self._introduced()
        indices = {
            name.removeprefix(SUPPORT): index.long()
            for name, index in request.tensors.items()
            if name.startswith(SUPPORT)
        }
        if indices:
            infos = {info.name: info for info in work.setup.backbone.weight_infos(work.config.selection.scope)}
            if unknown := indices.keys() - infos.keys():
                raise TrainingError(f"This backbone has no eligible parameter {sorted(unknown)[0]!r}.")
            ordered = {name: indices[name] for name in infos if name in indices}
            shapes = {name: infos[name].shape for name in ordered}
            work.support = Support(ordered, shapes, work.setup.backbone.weight_count, tuple(infos.values()))
            work.lr_scale, work.score = request.tensors.get(LR_SCALE), score or ""
            if work.lr_scale is not None and work.lr_scale.shape != (work.support.k,):
                raise TrainingError("The coordinator's factors of the learning rate are not one for each weight.")
            work.forward_pass = forward_pass_for(
                work.config,
                work.setup.backbone,
                ordered,
                None if work.folder is None else work.folder.path,
                work.setup.forward_pass,
                checkpointing=work.setup.checkpointing,
            )
            if work.forward_pass is not work.setup.forward_pass:
                self._cleanup.callback(work.forward_pass.close)
        if work.support is None:
            raise TrainingError("The coordinator has not said yet which weights to train; it will do so.")

    def _delta(self, request: Message, head: Head) -> SparseDelta:
        work = self._introduced()
        assert work.support is not None
        delta = SparseDelta.zeros(work.setup.backbone, work.support, head)
        values = request.tensors[VALUES]
        if values.shape != delta.values.shape:
            raise TrainingError("The coordinator's values are not one for each selected weight.")
        delta.values = values.to(delta.values.dtype)
        return delta

    def _reporter(self, folder: RunFolder | None) -> Progress:
        def report(stage: str, done: int, total: int) -> None:
            if folder is not None:
                folder.state.record_progress(stage, done, total)
            self._progress(stage, done, total)

        return report


def head_tensors(head: Head) -> dict[str, Tensor]:
    """Return a head as tensors of a message."""
    return {"head/weight": head.weight, "head/bias": head.bias}


def read_head(message: Message) -> Head:
    """Return the head of a message.

    Raises:
        TrainingError: it has none.
    """
    if "head/weight" not in message.tensors or "head/bias" not in message.tensors:
        raise TrainingError("The message has no head.")
    return Head(message.tensors["head/weight"], message.tensors["head/bias"])
