"""The nemesis of hosts: random faults against a site of eight hosts, and the oracle at the end.

    python -m tests.hosts.nemesis [--seed S] [--faults N] [--minutes M] [--json FILE]

Hosts are killed, frozen and stopped; the network is cut between any two, in one direction or both; clocks jump and
disks are full. The seed is printed and chooses everything but the machine's own timing. Exit code: the number of
violations (at most 100).
"""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from itertools import combinations
from pathlib import Path

from shared.errors import DatabaseUnavailable
from shared.settings import Settings
from tests.faults.chaos import recovery
from tests.faults.injector import Hit, Injector
from tests.faults.nemesis import blamed
from tests.faults.oracle import evidence, violations
from tests.faults.tally import Round, measure
from tests.hosts.container_engine import MISSING, EngineError, find
from tests.hosts.load import Load, different_weights
from tests.hosts.site import LEASE, WORKERS, Site, open_site, start_all
from tests.support.stack import eventually

#: From the last fault until everything must be final (seconds).
CALM = 300.0
#: How long a drain may take (seconds): the promise, and some more.
DRAIN = 75
#: Exit code of a worker whose shutdown hangs, in time for the promise: its job is given back, or rescued.
LAST_RESORT = 1
#: How far a clock jumps (seconds).
JUMPS = (-86_400, -3_600, -60, -10, 10, 60, 3_600, 86_400)
#: Hosts that exchange messages; links between them are cut more often.
_SERVERS = ("database", "redis", "bucket")


class HostsNemesis(Injector):
    PAUSE = (0.5, 4.0)
    IS_AWAY = (EngineError, DatabaseUnavailable)

    def __init__(self, site: Site, seed: int) -> None:
        super().__init__(seed)
        self.site, self.hosts = site, site.hosts

    def _menu(self) -> dict[str, int]:
        menu = {
            "worker_killed": 9, "worker_frozen": 9, "worker_stopped": 5, "worker_cut_off": 5, "link_cut": 24,
            "link_cut_one_way": 10, "disk_filled": 7, "api_killed": 3, "api_frozen": 3, "beat_killed": 3,
            "beat_frozen": 3, "database_killed": 3, "database_frozen": 3, "database_stopped": 1, "redis_killed": 3,
            "redis_frozen": 3, "bucket_frozen": 4,
        }  # fmt: skip
        return menu | ({"clock_moved": 10} if self.site.clocks.library else {})

    def _count_deserters(self) -> None:
        were_busy = set(self._busy)  # one may be up again by the time that the list is there
        for name in self.site.network.ended():
            if name not in were_busy | self._busy:
                self.deserters.append(f"{name} ended by itself with {self.hosts[name].exit_code()}")
                self.hosts[name].start()

    def calm(self) -> None:
        super().calm()
        eventually("the database answers again", self.site.database_answers)
        eventually("the API answers again", self.site.api_answers)

    def _note(self, kind: str, lasts: float = 0.0, hit: Hit | None = None) -> None:
        super()._note(kind, lasts, hit)
        print(f"{len(self.injected):4} {kind} for {lasts:.1f} s" + (f", job {hit[0]}" if hit else ""), flush=True)

    # -- who is hit -----------------------------------------------------------------------------------

    def _idle(self, *names: str) -> str | None:
        """Choose a host that nothing else is done to."""
        return self.chance.choice([name for name in names if name not in self._busy] or [""]) or None

    def _hit(self, name: str) -> Hit | None:
        if name in WORKERS:
            with suppress(DatabaseUnavailable):
                return self.site.hit(name)
        return None

    def _long(self) -> float:
        return self.chance.uniform(0.5, 3 * LEASE)

    # -- hosts ------------------------------------------------------------------------------------------

    def _kill(self, *names: str) -> None:
        name, away = self._idle(*names), self.chance.uniform(0.0, LEASE)
        if name is None:
            return
        hit = self._hit(name)
        self.hosts[name].kill()
        self.kills += 1
        self._note(f"{role(name)}_killed", away, hit)
        self._later(name, away, self.hosts[name].start)

    def _freeze(self, *names: str) -> None:
        name, lasts = self._idle(*names), self._long()
        if name is None:
            return
        hit = self._hit(name)
        self.hosts[name].freeze()
        self._note(f"{role(name)}_frozen", lasts, hit if lasts > LEASE else None)
        self._later(name, lasts, self.hosts[name].thaw)

    def _stop(self, *names: str) -> None:
        name = self._idle(*names)
        if name is None:
            return
        hit, host = self._hit(name), self.hosts[name]
        self._note(f"{role(name)}_stopped", 0.0, hit)

        def stop() -> None:
            begun = time.monotonic()
            code = host.stop(DRAIN)
            if (wrong := wrong_end(name, code, time.monotonic() - begun)) is not None:
                self.deserters.append(wrong)
            elif code == LAST_RESORT:
                print(f"     {name} exited by its last resort", flush=True)
            host.start()

        self._later(name, 0.0, stop)

    def worker_killed(self) -> None:
        self._kill(*WORKERS)

    def worker_frozen(self) -> None:
        self._freeze(*WORKERS)

    def worker_stopped(self) -> None:
        self._stop(*WORKERS)

    def api_killed(self) -> None:
        self._kill("api")

    def api_frozen(self) -> None:
        self._freeze("api")

    def beat_killed(self) -> None:
        self._kill("beat")

    def beat_frozen(self) -> None:
        self._freeze("beat")

    def database_killed(self) -> None:
        self._kill("database")

    def database_frozen(self) -> None:
        self._freeze("database")

    def database_stopped(self) -> None:
        self._stop("database")

    def redis_killed(self) -> None:
        self._kill("redis")

    def redis_frozen(self) -> None:
        self._freeze("redis")

    def bucket_frozen(self) -> None:
        self._freeze("bucket")

    # -- the network ------------------------------------------------------------------------------------

    def link_cut(self) -> None:
        one, other = self._link()
        self._cut(f"{link(one, other)}_cut", [(one, other), (other, one)])

    def link_cut_one_way(self) -> None:
        one, other = self._link()
        if self.chance.random() < 0.5:
            one, other = other, one
        self._cut(f"{link(one, other)}_cut_one_way", [(one, other)])

    def worker_cut_off(self) -> None:
        """Leave a host alone with itself."""
        name = self.chance.choice(WORKERS)
        others = [other for other in self.hosts if other != name]
        self._cut("worker_cut_off", [pair for other in others for pair in ((name, other), (other, name))])

    def _link(self) -> tuple[str, str]:
        pairs = list(combinations(sorted(self.hosts), 2))
        used = [(one in _SERVERS) != (other in _SERVERS) for one, other in pairs]
        return self.chance.choices(pairs, [4 if both else 1 for both in used])[0]

    def _cut(self, kind: str, pairs: list[tuple[str, str]]) -> None:
        """Lose what the first of each pair sends to the second. Links that are cut or whose host is away are left."""
        lasts = self._long()
        names = {name for pair in pairs for name in pair}
        if names & self._busy or any(_name(*pair) in self._busy for pair in pairs):
            return
        self._busy |= {_name(*pair) for pair in pairs}
        hits = [hit for name in sorted(names & {*WORKERS}) if (hit := self._hit(name)) is not None]

        def mend() -> None:
            for sender, receiver in pairs:
                self._do_when_up(partial(self.hosts[sender].find, self.hosts[receiver]))
                self._busy.discard(_name(sender, receiver))

        try:
            for sender, receiver in pairs:
                self.hosts[sender].lose(self.hosts[receiver])
            self._note(kind, lasts, hits[0] if lasts > LEASE and len(hits) == 1 and kind in _ENDS_ATTEMPTS else None)
        finally:
            self._later(_name(*pairs[0]), lasts, mend)

    def _do_when_up(self, act: Callable[[], object]) -> None:
        """Repeat a command until its host is neither frozen nor off."""

        def done() -> bool:
            with suppress(EngineError):
                act()
                return True
            return False

        eventually("the host is there again", done)

    # -- clocks and disks --------------------------------------------------------------------------------

    def clock_moved(self) -> None:
        name = self.chance.choice(["api", "beat", *WORKERS])
        key, lasts = f"clock of {name}", self._long()
        if key in self._busy:
            return
        self.site.clocks.move(name, self.chance.choice(JUMPS))
        self._note("clock_moved", lasts)
        self._later(key, lasts, lambda: self.site.clocks.move(name, 0))

    def disk_filled(self) -> None:
        name, lasts = self._idle(*WORKERS), self._long()
        if name is None or f"disk of {name}" in self._busy:
            return
        self.hosts[name].run("sh", "-c", "cat /dev/zero > /data/filler 2> /dev/null; true")
        self._note("disk_filled", lasts)
        free = partial(self.hosts[name].run, "rm", "-f", "/data/filler")
        self._later(f"disk of {name}", lasts, lambda: self._do_when_up(free))


#: Cuts after which the worker loses its lease if they last longer than one.
_ENDS_ATTEMPTS = {"worker_cut_off", "database_and_worker_cut", "database_and_worker_cut_one_way"}


def role(name: str) -> str:
    return name.rstrip("0123456789")


def wrong_end(name: str, code: int, seconds: float) -> str | None:
    """Return what is wrong with how a host ended that was stopped, or None.

    An error while a worker stops has the exit code of its last resort, but comes before that.
    """
    if code in (0, 128 + signal.SIGTERM):  # it may not have come to its handlers yet
        return None
    if code == LAST_RESORT and role(name) == "worker" and seconds > Settings.model_fields["drain_seconds"].default:
        return None
    return f"{name} stopped with {code} after {seconds:.0f} s"


def link(one: str, other: str) -> str:
    """Name a link by the roles of its ends; those without traffic are one kind."""
    if (one in _SERVERS) == (other in _SERVERS):
        return "unused_link"
    return "_and_".join(sorted((role(one), role(other))))


def _name(sender: str, receiver: str) -> str:
    return f"{sender} to {receiver}"


# -- one run ------------------------------------------------------------------------------------------


def run(site: Site, seed: int, faults: int, minutes: float) -> Round:
    round_ = Round(seed, "postgres")
    begun = time.monotonic()
    start_all(site)
    nemesis, load = HostsNemesis(site, seed), Load(site, seed)
    nemesis.run(faults, minutes)
    load.stop()
    nemesis.calm()
    try:
        load.everything_ends(CALM)
    except AssertionError as late:
        round_.violations.append(str(late))
    root = site.copy_of_bucket()
    round_.violations += [*violations(site.engine, root, load.accepted, site.work), *load.wrong, *nemesis.deserters]
    round_.violations += [*blamed(site), *different_weights(site)]
    if round_.violations:
        (site.folder / "evidence.txt").write_text(evidence(site.engine, root, round_.violations))
    measure(round_, site.engine, nemesis.injected)
    round_.kills, round_.accepted, round_.refused = nemesis.kills, len(load.accepted), load.refused
    round_.slowest_submission = round(load.slowest, 3)
    round_.minutes = round((time.monotonic() - begun) / 60, 2)
    return round_


def told(round_: Round) -> str:
    """Return the figures as text."""
    return "\n".join(
        [
            f"{sum(round_.faults.values())} faults in {round_.minutes} minutes, {round_.kills} hosts killed",
            f"{round_.accepted} jobs accepted, states {round_.states}, attempts {round_.outcomes}",
            f"{round_.transactions} effect transactions, {round_.lost_steps} of {round_.steps} steps done again",
            f"slowest submission {round_.slowest_submission} s, {round_.refused} sent again",
            "",
            *recovery([round_]),
            "",
            *(f"VIOLATION {violation}" for violation in round_.violations),
        ]
    )


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.hosts.nemesis", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**9))
    parser.add_argument("--faults", type=int, default=200)
    parser.add_argument("--minutes", type=float, default=25.0, help="stop injecting after so long")
    parser.add_argument("--json", type=Path, help="write the figures there")
    given = parser.parse_args(argv)
    engine = find()
    if engine is None:
        print(MISSING)
        return 0
    print(f"seed {given.seed}", flush=True)
    folder = Path(tempfile.mkdtemp(prefix="nightshift-hosts-"))
    with open_site(engine, folder) as site:
        round_ = run(site, given.seed, given.faults, given.minutes)
    print(told(round_))
    if given.json:
        round_.save(given.json)
    if round_.violations:
        print(f"everything is kept in {folder}")
    else:
        shutil.rmtree(folder, ignore_errors=True)
    return min(len(round_.violations), 100)


if __name__ == "__main__":
    sys.exit(main())
