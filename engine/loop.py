"""The training loop. There is only one, and it reads from top to bottom."""

import math
import time

from engine import checkpoint, optim, rowlog
from engine.batch_loss import RowShares, Sums
from engine.checkpoint import Progress, Snapshot
from engine.data.corpus import Batch
from engine.data.stream import RowStream
from engine.dist.choice import divide_model
from engine.dist.stragglers import Stragglers
from engine.dist.writers import with_brought
from engine.footprint import Footprint, log_memory_plan
from engine.heap import keep_freed
from engine.measure import Meter, StepWork
from engine.model.checkpointing import checkpoint_activations
from engine.pace import Pace
from engine.parts import TrainingSpec
from engine.precision import LossScale
from engine.rowlog import RowLog, RowLoss
from engine.samples import write_samples
from engine.saver import Saver
from engine.schedule import learning_rate, steps_of, times_due
from engine.selection import Selection
from engine.session import Session
from engine.spikes import Outcome, SpikeWatch
from engine.stop import StopRequested
from engine.tally import Tally


class Training:
    """A run that trains: steps, evaluations and checkpoints in a fixed order, so that resuming it changes nothing."""

    def __init__(self, session: Session, spec: TrainingSpec) -> None:
        self.session = session
        self.spec = spec
        self.hyper = spec.hyperparameters
        self.journal = session.journal
        shapes = {name: p.shape for name, p in session.subject.trainable()}
        self.meter = Meter(session.subject.model, session.machine)
        self.strategy = divide_model(session, spec)
        # From here on session.replicas are the ranks that rows are dealt out among.
        self.trainable = session.subject.trainable()
        self.stream = RowStream.of_job(session.rows, spec, session.replicas)
        self.total_steps = self.hyper.max_steps or self._steps_of_epochs()
        self.progress = Progress()
        if session.start is not None:
            self.progress = checkpoint.restore(session.start, self.strategy.restore)
            assert self.progress.cursor is not None, "saved with each checkpoint"
            self.stream.cursor = self.progress.cursor
        elif spec.optimizer_state == "kept":
            saved = checkpoint.optimizer_of(session.run.continued)
            optim.check_adoptable(self.strategy.optimizer, shapes, saved.shapes())
            self.strategy.restore(saved)
        self.progress.processes, self.progress.zero_stage = session.ranks.count, self.strategy.stage
        self.selection = Selection(spec.checkpoints, self.progress)
        self.scale = LossScale(self.progress, session.machine.precision)
        self.spikes = SpikeWatch(self.progress, self.hyper.on_loss_spike, self.journal, self.stream.files)
        self.row_log = _row_log_of(session) if session.ranks.leads else None
        self.saver = Saver(session, spec.checkpoints.save_total_limit, self.row_log)
        self.saved_step = None if session.start is None else self.progress.step
        self.started_step = self.progress.step
        self.tally = Tally(session.machine.step)
        self.stragglers = Stragglers(session.ranks, session.journal)
        self.pace = Pace()
        self.elapsed_before_s = self.progress.elapsed_s
        self.started_s = time.perf_counter()

    def _steps_of_epochs(self) -> int:
        steps = self.stream.steps_in(self.hyper.num_train_epochs or 1.0)
        if self.stream.is_estimate():
            message = f"the file is tokenized during training: {steps} steps is an estimate from a part of it"
            self.journal.log("info", "steps_estimated", message, total_steps=steps)
        return steps

    def carry_out(self) -> None:
        """Train to the end.

        Raises:
            StopRequested: the run was asked to stop; a checkpoint of the last whole step is on disk.
            Diverged: the loss or the gradient is no longer a number.
        """
        try:
            self._carry_out()
        except StopRequested:
            if self.saved_step != self.progress.step and self.progress.step > 0:
                self._save()  # before the first step there is nothing to keep
            self.saver.finish()
            raise
        except Exception:
            self.saver.let_end()
            raise

    def _carry_out(self) -> None:
        session, progress = self.session, self.progress
        rate = session.report_start(total_steps=self.total_steps, start_step=progress.step)
        self.meter.begin(rate)
        log_memory_plan(self.spec, session)
        footprint = Footprint(session.subject, session.machine)
        keep_freed()
        model = session.subject.model
        checkpoint_activations(model, self.hyper.activation_checkpointing)
        model.train()
        self.pace.start()
        if session.rows.validation is None:
            self.selection.nothing_held_out(self.journal)
        checkpoints = self.spec.checkpoints
        while True:
            if self._due(checkpoints.eval_steps, progress.evaluated_step):
                self._evaluate()
            if self._due(checkpoints.save_steps, self.saved_step):
                self._save()
            if progress.step == self.total_steps:
                break
            session.stop.check()
            if self._ends_early():
                continue
            self._step()
        self.saver.finish_together()
        self._report_usage(footprint.report(self.journal, self.strategy.optimizer))

    def _due(self, every: float | str, done_step: int | None) -> bool:
        assert not isinstance(every, str), "the spec is resolved"
        step = self.progress.step
        at = step > 0 and (step % steps_of(every, self.total_steps) == 0 or step == self.total_steps)
        return at and done_step != step

    def _step(self) -> None:
        """One optimizer step."""
        meter, start_s = self.meter, time.perf_counter()
        batches = self.stream.next_step()
        waited_s = time.perf_counter() - start_s
        work = StepWork.of(batches, self.session.training_objective.count, self.session.replicas)
        sums, rows = self._gradients(batches, work.counted)
        norm = self.strategy.reduce()
        self.saver.until_read()
        outcome = Outcome(self.progress.step + 1, float(sums.total) / work.counted, float(norm), rows)
        rate = learning_rate(self.hyper, self.progress.step, self.total_steps)
        values = {"loss": outcome.loss, "learning_rate": rate, "grad_norm": outcome.grad_norm}
        if self._allows(outcome):
            with meter.part("optimizer_s"):
                self.strategy.step(rate)
        else:
            values["skipped"] = 1.0
        self.strategy.clear()
        self._advance(batches, work, outcome)
        values |= {"tokens": float(self.progress.tokens), "data_wait_s": waited_s, "epoch": self.stream.epoch()}
        if self.scale.active:
            values["loss_scale"] = self.scale.value
        step_s = time.perf_counter() - start_s
        self.pace.ended("step")
        values |= meter.step(work, step_s=step_s) | {"eta_s": self._left_s()}
        self.journal.metrics(self.progress.step, "train", values | self.stream.tokens_by_file() | sums.means())

    def _left_s(self) -> float:
        """Return the expected seconds until the end of the run; evaluation and save of the current step are yet to come."""
        done, rules = self.progress.step, self.spec.checkpoints
        evaluations, saves = (
            times_due(every, self.total_steps, after=done - 1) for every in (rules.eval_steps, rules.save_steps)
        )
        left = self.total_steps - done
        return self.pace.left_s({"step": left, "evaluation": evaluations, "samples": evaluations, "save": saves})

    def _gradients(self, batches: list[Batch], count: float) -> tuple[Sums, list[RowLoss]]:
        """Compute the step's gradients: the micro-batches' losses summed, divided by the `count` of all ranks together."""
        meter, sums, shares = self.meter, Sums(), list[RowShares]()
        for batch in batches:
            with meter.part("forward_s"):
                scored = self.session.loss(batch)
            with meter.part("backward_s"):
                loss = scored.total / count * (self.scale.value if batch.counts else 0.0)
                self.strategy.backward(loss, last=batch is batches[-1])
            if batch.counts:
                sums.add(scored)
                shares += [] if scored.shares is None else [scored.shares]
            del scored  # its graph holds copies of the weights, and the next micro-batch makes its own
        self.scale.undo(p for _, p in self.trainable)
        rows = [row for share in shares for row in share.by_row()]
        if self.session.ranks.count == 1:
            return sums, rows
        pace = meter.so_far("forward_s") / sum(batch.tokens for batch in batches)
        by_rank = self.session.replicas.gather((sums.plain(), rows, pace))
        if not self.session.in_parts:
            self.stragglers.look(self.progress.step + 1, [pace for *_, pace in by_rank])
        return Sums.joined(each for each, *_ in by_rank), [row for _, rows, _ in by_rank for row in rows]

    def _allows(self, outcome: Outcome) -> bool:
        """Return whether to apply the step's update: not if fp16 overflowed, nor if it is a spike to be skipped."""
        if math.isfinite(outcome.loss) and self.scale.overflows(outcome.grad_norm):
            self._log_overflow(outcome.step)
            return False
        return self.spikes.allows(outcome)

    def _advance(self, batches: list[Batch], work: StepWork, outcome: Outcome) -> None:
        progress = self.progress
        progress.step += 1
        progress.cursor = self.stream.cursor
        progress.tokens += int(work.tokens)
        progress.trained_tokens += int(work.labels)
        progress.train_loss = outcome.loss
        self.tally.add(batches, work, self.session.replicas.count)
        if self.row_log is not None:
            self.row_log.append(progress.step, outcome.rows)

    def _report_usage(self, held: dict[str, int]) -> None:
        """Write the event `used`, except for a resumed run, which knows only a part of what it took."""
        if self.started_step == 0:
            self.journal.write("used", **self.tally.usage(self.session, self.spec, held, self.pace))

    def _log_overflow(self, step: int) -> None:
        self.journal.log(
            "info",
            "step_skipped",
            f"a gradient of step {step} overflowed fp16: its update is skipped, the loss scale is now "
            f"{self.scale.value:g}",
            step=step,
            loss_scale=self.scale.value,
        )

    def _evaluate(self) -> None:
        progress, held_out = self.progress, self.session.rows.validation
        # A stop request may end this here: the step then counts as not evaluated, and a resumed run evaluates it first.
        metrics = {} if held_out is None else self.session.evaluate(held_out)
        self.pace.ended("evaluation")
        write_samples(self.session, self.spec, progress.step)
        self.pace.ended("samples")
        progress.evaluated_step, progress.eval_metrics = progress.step, metrics
        if held_out is None:
            return
        self.journal.metrics(progress.step, "eval", metrics)
        self.selection.evaluated(metrics)
        if self.saved_step == progress.step:
            # It was saved without a score when the stop came. Saved again, it may be the best.
            self.saved_step = None

    def _save(self) -> None:
        """Save this step, as the best if it was evaluated and no saved step scored better."""
        progress = self.progress
        self.saver.finish_together()
        scored = progress.eval_metrics if progress.evaluated_step == progress.step else {}
        best = self.selection.saved(scored)
        progress.elapsed_s = self._elapsed_s()
        self.saved_step = progress.step
        states = with_brought(self.session.ranks, self.strategy.state())
        self.saver.begin(Snapshot.of(progress, states, self.strategy.weights()), best=best, scored=scored)
        self.pace.ended("save")

    def _elapsed_s(self) -> float:
        return self.elapsed_before_s + time.perf_counter() - self.started_s

    def _ends_early(self) -> bool:
        """Return whether this step is to be the last, to be evaluated, saved and exported as the planned last one is."""
        step, planned = self.progress.step, self.total_steps
        limit, patience = self.spec.resources.max_minutes, self.spec.checkpoints.early_stopping_patience
        if step > 0 and limit is not None and self.session.ranks.any(self._elapsed_s() >= 60 * limit):
            level, code, why = "warn", "max_minutes_reached", f"stopped after {limit:g} minutes"
        elif self.selection.out_of_patience():
            level, code = "info", "early_stopped"
            why = f"stopped after {patience} evaluations without a better {self.selection.metric}"
        else:
            return False
        self.journal.log(level, code, f"{why}, at step {step} of {planned}", step=step, total_steps=planned)
        self.total_steps = step
        return True


def _row_log_of(session: Session) -> RowLog:
    kept = None if session.start is None else session.start / checkpoint.STATE / rowlog.NAME
    return RowLog(session.run.root / rowlog.NAME, kept)
