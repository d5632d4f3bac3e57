"""A site: its images stay where they are, and it answers the coordinator's requests."""

import math
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing, suppress
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
from shpeft.images import InputTransform
from shpeft.linear_probe import Head
from shpeft.pipeline.federated.agreement import propose
from shpeft.pipeline.federated.messages import Message
from shpeft.pipeline.progress import RunProgress
from shpeft.pipeline.run_pipeline import finish, predict_probe
from shpeft.pipeline.setup import RunSetup, forward_pass_for, load_images, set_up
from shpeft.pipeline.weight_selection import Selection, score_weights
from shpeft.pipeline.weight_training import Trained, finetune_as
from shpeft.runs import RunFolder
from shpeft.selection.top_k import Support, check_budget
from shpeft.support.progress import Progress, silent
from shpeft.training.checkpoint import Checkpoint, EpochReport, fingerprints
from shpeft.training.private import Privacy, PrivateState, steps_per_epoch, train_privately

FROM_COORDINATOR = ("selection", "training", "seed")
"""What the coordinator decides. Images, backbone, decision rules and device are each site's own."""

PRESENT = "present"
"""The tensor that says which classes a site has images of."""


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
    privacy: Privacy | None = None
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
        steps = {"introduce": self._introduce, "score": self._score, "train": self._train, "finish": self._finish}
        try:
            message = Message.from_bytes(request)
            if message.kind not in steps:
                raise TrainingError(f"The coordinator asks for {message.kind!r}, which this version does not know.")
            return Message(message.kind, *steps[message.kind](message)).to_bytes()
        except ShpeftError as error:
            self._report(str(error))
            return Message("refusal", {"error": type(error).__name__}).to_bytes()

    def _introduce(self, request: Message) -> tuple[Mapping[str, Any], Mapping[str, Tensor]]:
        """Take the coordinator's settings, load the images and the backbone, and fit the linear probe."""
        if self._has_spent:
            raise TrainingError(
                "This site has trained privately already, and another training would spend ε again. Start the site "
                "again if you agree to that."
            )
        if self._work is not None:
            self._abandon(Interrupted("The coordinator began anew."))
        facts = request.facts
        own = self.config.model_dump()
        config = RunConfig.parse(own | {name: facts["settings"][name] for name in FROM_COORDINATOR})
        classes, base = tuple(str(name) for name in facts["classes"]), str(facts["base"])
        folder, remarks = None, list[str]()
        with ExitStack() as stack:
            if self._open_folder is not None:
                folder = self._open_folder(config)
                remarks = stack.enter_context(folder.state.recording())
                folder.write_environment()
            meter = RunProgress(self._reporter(folder))
            data = (self._data or load_images(config, meter)).within(classes)
            counts = data.train.counts()
            if sum(count > 0 for count in counts.values()) < 2:
                raise DatasetError("A site needs training images of at least two classes.")
            privacy = None if facts["privacy"] is None else Privacy(**facts["privacy"])
            epsilon = self._check_privacy(privacy, config, len(data.train))
            setup = set_up(config, meter, None if folder is None else folder.path, data=data)
            stack.callback(setup.forward_pass.close)
            transform = InputTransform.from_dict(facts["transform"])
            if setup.backbone.fingerprint != base or setup.backbone.transform != transform:
                raise BaseMismatch(
                    f"The coordinator trains on base {base[:12]} with another backbone, weights or image size; this "
                    f"site has {setup.backbone.name} at {setup.backbone.image_size} px, base "
                    f"{setup.backbone.fingerprint[:12]}. Give this site the coordinator's backbone."
                )
            self._cleanup = stack.pop_all()
        personal, epochs = bool(facts["personal_heads"]), int(facts["local_epochs"])
        self._work = _Work(config, setup, meter, folder, remarks, personal, epochs, setup.probe, setup.forward_pass)
        self._work.privacy = privacy
        spent = "" if privacy is None else f" With δ {privacy.delta:g}, all rounds together spend ε {epsilon:.2f}."
        self._report(f"Taking part with {len(data.train):,} training images.{spent}")
        tensors = {} if personal or privacy else head_tensors(setup.probe)
        present = torch.tensor([counts[name] > 0 for name in classes])
        return {"base": base, "images": len(data.train)}, {**tensors, PRESENT: present}

    def _score(self, request: Message) -> tuple[Mapping[str, Any], Mapping[str, Tensor]]:
        """Propose the best weights, scored under the common head, or under this site's own."""
        work = self._introduced()
        if work.privacy is not None:
            raise TrainingError("Scores of images are not private, and none are sent where training is.")
        head = work.setup.probe if work.personal else read_head(request)
        scores = score_weights(work.config, replace(work.setup, probe=head), work.meter)
        budget = work.config.selection.budget
        assert not isinstance(budget, str)
        k = check_budget(budget, scores.eligible, scores.total)
        proposal = propose(scores, k, len(work.setup.data.train), work.config.selection.spread)
        positions = proposal.positions.to(torch.int32 if scores.eligible < 2**31 else torch.int64)
        return {"base": work.setup.backbone.fingerprint}, {"positions": positions, "scores": proposal.scores}

    def _train(self, request: Message) -> tuple[Mapping[str, Any], Mapping[str, Tensor]]:
        """Train the values and the head for the epochs of a round, from what the coordinator sends."""
        work, number = self._introduced(), int(request.facts["round"])
        self._take_support(request)
        head = work.head if work.personal else read_head(request)
        delta = self._delta(request, head)
        total, before = work.config.training.epochs, number * work.epochs
        epochs = min(work.epochs, total - before)
        if work.privacy is not None:
            return self._train_privately(work.privacy, delta, head, epochs)
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

    def _train_privately(
        self, privacy: Privacy, delta: SparseDelta, head: Head, epochs: int
    ) -> tuple[Mapping[str, Any], Mapping[str, Tensor]]:
        """Train a round with noise; the loss, which would say more than ε, stays here."""
        work = self._introduced()
        options, images = work.config.training, len(work.setup.data.train)
        before = work.private or PrivateState(delta.values, head)
        per_epoch = steps_per_epoch(images, options.batch_size)
        if before.steps + epochs * per_epoch > options.epochs * per_epoch:
            raise TrainingError("The coordinator asks for more rounds than it announced, which would spend more of ε.")
        assert work.support is not None
        self._has_spent = True
        work.private = train_privately(
            work.forward_pass,
            delta,
            work.setup.data,
            replace(before, values=delta.values, head=head),
            privacy,
            epochs=epochs,
            total_epochs=options.epochs,
            batch_size=options.batch_size,
            lr=options.lr,
            head_lr=options.head_lr,
            weight_decay=options.weight_decay,
            warmup=options.warmup,
            progress=work.meter.part("A private round", work.setup.plan.epoch * epochs),
        )
        epsilon = privacy.epsilon(min(1.0, options.batch_size / images), work.private.steps)
        self._report(f"Spent so far: ε {epsilon:.2f} at δ {privacy.delta:g}.")
        return {"base": delta.base, "epsilon": epsilon}, {
            "values": work.private.values,
            **head_tensors(work.private.head),
        }

    def _check_privacy(self, privacy: Privacy | None, config: RunConfig, images: int) -> float:
        """Return the ε that all rounds together spend; infinite without privacy.

        Raises:
            TrainingError: it is more than this site allows.
        """
        options, epsilon = config.training, math.inf
        if privacy is not None:
            rate = min(1.0, options.batch_size / images)
            epsilon = privacy.epsilon(rate, options.epochs * steps_per_epoch(images, options.batch_size))
        if self._max_epsilon is not None and epsilon > self._max_epsilon:
            spent = "no privacy" if privacy is None else f"ε {epsilon:.2f} at δ {privacy.delta:g}"
            raise TrainingError(
                f"The coordinator offers {spent}, and this site takes part with ε of at most {self._max_epsilon:g}. "
                "Ask for more noise, fewer epochs or smaller batches."
            )
        return epsilon

    def _finish(self, request: Message) -> tuple[Mapping[str, Any], Mapping[str, Tensor]]:
        """Take the result, test it on this site's images, and write the run folder."""
        work = self._introduced()
        self._take_support(request)
        assert work.support is not None
        self.delta = self._delta(request, work.head if work.personal else read_head(request))
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

    def _take_support(self, request: Message) -> None:
        """Take the selected weights, where the request brings them.

        Raises:
            SelectionError: they are not among this backbone's weights.
            TrainingError: they are none, and none came before.
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
            work.lr_scale, work.score = request.tensors.get(LR_SCALE), str(request.facts["score"])
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
        values, expected = request.tensors["values"], Head.of(work.setup.backbone)
        shapes = (values.shape, head.weight.shape, head.bias.shape)
        if shapes != (delta.values.shape, expected.weight.shape, expected.bias.shape):
            raise TrainingError("The coordinator's values or head have another shape than this backbone's.")
        delta.values = values.to(delta.values.dtype)
        return delta

    def _reporter(self, folder: RunFolder | None) -> Progress:
        def report(stage: str, done: int, total: int) -> None:
            if folder is not None:
                folder.state.record_progress(stage, done, total)
            self._progress(stage, done, total)

        return report


SUPPORT, LR_SCALE = "support/", "lr_scale"
"""The names of the tensors that say which weights to train, and how fast."""


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
