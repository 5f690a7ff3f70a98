"""sweeper: carry sweeps on. Settle trials whose jobs have ended, prune, start the next trials, and end sweeps.

Each step is a short transaction, conditional on what was read before it, so that any number of processes may do this
or be killed in it: a trial is started, told and pruned once. What Optuna computes is computed between transactions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Engine

from nightshift.errors import Unavailable
from shared.db.engine import read, write
from shared.events import emit
from shared.failpoints import failpoint
from shared.settings import Settings
from shared.sweeps import best, queries, space, transitions
from shared.sweeps.models import SweepState, TrialState
from shared.sweeps.results import Ended, ended
from worker.maintenance.service import Counts

if TYPE_CHECKING:
    from worker.sweeps.study import SweepStudy

#: Trials that one pass starts, and points of curves that the pruner sees in it. Too high: it delays other services.
STARTS, POINTS = 20, 500
#: Points of one trial that the pruner sees at all. Too high: every row of a trial holds them.
MOST_POINTS = 1_000
_COUNTED = ("started", "settled", "pruned", "held", "ended")


def run_once(engine: Engine, settings: Settings) -> Counts:
    """Return {"started", "settled", "pruned": trials, "held": jobs paused or resumed, "ended": sweeps}."""
    counts = Counter(dict.fromkeys(_COUNTED, 0))
    with read(engine) as conn:
        active = queries.active_ids(conn)
    for sweep_id in active:
        try:
            counts.update(SweepPass(engine, sweep_id).run())
            _note_recovery(engine, sweep_id)
        except Unavailable:
            raise
        except Exception as error:  # one sweep delays no other
            counts["ended"] += _noted(engine, sweep_id, f"{type(error).__name__}: {error}")
    return dict(counts)


def _noted(engine: Engine, sweep_id: str, error: str) -> bool:
    """Note that a pass over a sweep has failed; return whether that was one too many."""
    emit("sweep.pass_failed", sweep_id=sweep_id, error=error)
    with write(engine) as conn:
        return transitions.note_problem(conn, sweep_id, error)


def _note_recovery(engine: Engine, sweep_id: str) -> None:
    """Note that a pass over a sweep has succeeded, if the one before it failed."""
    with read(engine) as conn:
        if not transitions.has_problem(conn, sweep_id):
            return
    with write(engine) as conn:
        transitions.note_recovery(conn, sweep_id)


@dataclass(frozen=True)
class SweepPass:
    """One pass over one sweep."""

    engine: Engine
    sweep_id: str

    def run(self) -> dict[str, int]:
        """Do what is due and return what was done."""
        settled = self._settle()
        pruned = self._prune()
        held = self._hold()
        started = self._start()
        if settled:
            self._weigh()
        return {"started": started, "settled": settled, "pruned": pruned, "held": held, "ended": self._close()}

    def _sweep(self) -> Any:
        with read(self.engine) as conn:
            return queries.row_of(conn, self.sweep_id)

    def _study(self) -> SweepStudy:
        """Return the study as the rows have it now."""
        with read(self.engine) as conn:
            return _study_of(queries.row_of(conn, self.sweep_id), queries.trial_rows(conn, self.sweep_id))

    def _settle(self) -> int:
        sweep = self._sweep()
        if sweep is None:
            return 0
        with read(self.engine) as conn:
            found = [ended(row, sweep.metric) for row in queries.unsettled(conn, sweep)]
        return sum(self._settled(one, sweep.direction) for one in found if one is not None)

    def _settled(self, one: Ended, direction: str) -> bool:
        with write(self.engine) as conn:
            settled = transitions.settle(conn, self.sweep_id, one, direction)
            failpoint("sweep.settled")
        return settled

    # -- pruning ----------------------------------------------------------------------------------

    def _prune(self) -> int:
        sweep = self._sweep()
        if sweep is None or sweep.pruner["name"] == "none" or sweep.state != SweepState.RUNNING.value:
            return 0
        metric = sweep.pruner["metric"]
        with read(self.engine) as conn:
            if not queries.has_points(conn, self.sweep_id, metric):
                return 0
            rows = queries.trial_rows(conn, self.sweep_id)
            unseen = _unseen(conn, rows, metric)
        if not unseen:
            return 0
        study = _study_of(sweep, rows)
        return sum(self._looked_at(study, row, points) for row, points in unseen)

    def _looked_at(self, study: SweepStudy, row: Any, points: Sequence[tuple[int, float]]) -> bool:
        """Show the pruner the new points of a trial; return whether it is pruned."""
        seen, prune, attrs = study.decide(row.number, [value for _, value in points])
        values = [*row.reports, *(value for _, value in points[:seen])]
        step = points[seen - 1][0]
        report = transitions.Report(row.number, row.job_id, row.reported_step, values, step, attrs, prune)
        failpoint("sweep.decided")
        with write(self.engine) as conn:
            return transitions.report(conn, self.sweep_id, report) and prune

    def _hold(self) -> int:
        with read(self.engine) as conn:
            if not queries.running_trials(conn, self.sweep_id, held=True):
                return 0
        with write(self.engine) as conn:
            return transitions.hold(conn, self.sweep_id)

    # -- new trials -------------------------------------------------------------------------------

    def _start(self) -> int:
        """Start trials until as many run as the sweep allows, or another process takes part."""
        started, study = 0, None
        while started < STARTS and (sweep := self._sweep()) is not None and self._has_room(sweep):
            if sweep.sampler != "grid" and (study is None or len(study) != sweep.started):
                study = self._study()
            values, attrs = study.ask() if study is not None else (_grid_point(sweep), {})
            failpoint("sweep.asked")
            with write(self.engine) as conn:
                job_id = transitions.start_trial(conn, sweep, values, attrs)
                if job_id is None or (job_id == "" and transitions.fail_if_all_refused(conn, self.sweep_id)):
                    break
            started += 1
        return started

    def _has_room(self, sweep: Any) -> bool:
        if sweep.state != SweepState.RUNNING.value or sweep.started >= sweep.trials:
            return False
        with read(self.engine) as conn:
            return queries.running_trials(conn, self.sweep_id) < int(sweep.concurrency)

    # -- the end ----------------------------------------------------------------------------------

    def _weigh(self) -> None:
        importance = self._study().importance()
        if importance is not None:
            with write(self.engine) as conn:
                transitions.write_importance(conn, self.sweep_id, importance)

    def _close(self) -> int:
        sweep = self._sweep()
        if sweep is None or not _may_end(sweep):
            return 0
        with read(self.engine) as conn:
            if queries.running_trials(conn, self.sweep_id):
                return 0
        with write(self.engine) as conn:
            closed = transitions.close(conn, self.sweep_id)
            if closed is not None and closed.best is not None:
                best.apply(conn, closed)
        failpoint("sweep.closed")
        return int(closed is not None)


def _study_of(sweep: Any, trials: Sequence[Any]) -> SweepStudy:
    from worker.sweeps.study import SweepStudy  # Optuna, which a process without sweeps does not need

    return SweepStudy(sweep, trials)


def _unseen(conn: Connection, trials: Sequence[Any], metric: str) -> list[tuple[Any, list[tuple[int, float]]]]:
    """Return the trials with points that the pruner has not seen, and these; first those it has seen least of."""
    watched = [row for row in trials if row.state == TrialState.RUNNING.value and not row.pruning]
    found: list[tuple[Any, list[tuple[int, float]]]] = []
    left = POINTS
    for row in sorted(watched, key=lambda row: len(row.reports)):
        if left > 0 and len(row.reports) < MOST_POINTS:
            points = queries.points(conn, row.job_id, metric, row.reported_step, left)
            left -= len(points)
            found += [(row, points)] if points else []
    return found


def _grid_point(sweep: Any) -> space.Values:
    return next(islice(space.grid(space.read(sweep.space)), sweep.started, None))


def _may_end(sweep: Any) -> bool:
    """Return whether the sweep ends once no trial runs."""
    has_all = sweep.state == SweepState.RUNNING.value and sweep.started >= sweep.trials
    return bool(sweep.state == SweepState.STOPPING.value or has_all)
