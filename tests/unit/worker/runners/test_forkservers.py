"""A forkserver runs from its first user until it was idle for long, and a wait for it can be given up."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.support.paths import ROOT
from tests.support.stack import eventually, gone
from worker.runners.forkserver_client import ForkserverClient, ForkserverUnavailable, sanitized_environment
from worker.runners.forkservers import Forkservers
from worker.runners.runner_pool import RunnerPool, RunnerSettings

#: A module whose import takes until a file is there.
GATE = """
import os, time
gate, worker = os.path.join(os.path.dirname(__file__), "open"), os.getppid()
while not os.path.exists(gate) and os.getppid() == worker:
    time.sleep(0.01)
"""
#: Idle seconds that are over at once, and some that never are in a test.
SHORT, LONG = 0.01, 3600.0


class Gate:
    """A forkserver's module, and whether its import may end."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "gate.py").write_text(GATE)

    def open(self) -> None:
        (self.folder / "open").touch()


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return Gate(tmp_path)


@pytest.fixture
def made(gate: Gate) -> Iterator[Callable[..., Forkservers]]:
    """Forkservers of `a`, which waits for the gate, and of `b`, which does not."""
    opened: list[Forkservers] = []

    def make(idle_seconds: float = LONG) -> Forkservers:
        env = sanitized_environment({**os.environ, "PYTHONPATH": os.pathsep.join([str(gate.folder), str(ROOT)])}, {})
        modules = {"a": ["gate", "worker.runners.runner"], "b": ["worker.runners.runner"]}
        clients = {name: ForkserverClient(name, modules[name], env) for name in modules}
        opened.append(Forkservers(clients, idle_seconds))
        return opened[-1]

    yield make
    for forkservers in opened:
        forkservers.close()


def process_of(forkservers: Forkservers, framework: str) -> psutil.Process:
    return psutil.Process(forkservers.client(framework).pid)


def warm_up(forkservers: Forkservers, framework: str) -> list[str]:
    """Wait until it is warm; return what was reported."""
    reported: list[str] = []
    forkservers.warm_up(framework, lambda: True, reported.append)
    return reported


def test_a_forkserver_starts_with_its_first_user_and_only_that_one_waits(
    made: Callable[..., Forkservers], gate: Gate
) -> None:
    forkservers = made()
    assert [forkservers.is_running(name) for name in "ab"] == [False, False]
    gate.open()
    assert warm_up(forkservers, "a") == ["a"]
    assert (forkservers.warm, forkservers.is_running("b")) == (["a"], False)
    assert warm_up(forkservers, "a") == []


def test_an_idle_forkserver_ends_and_starts_again_when_it_is_needed(made: Callable[..., Forkservers]) -> None:
    forkservers = made(SHORT)
    ended: list[tuple[str, bool]] = []
    forkservers.on_end = lambda name: ended.append((name, gone(first)))
    forkservers.begin("b")
    first = process_of(forkservers, "b")
    warm_up(forkservers, "b")
    forkservers.end("b")
    eventually("it has ended", lambda: gone(first) and not forkservers.is_running("b"))
    assert ended == [("b", False)], "the spare must go before its forkserver"
    forkservers.begin("b")
    warm_up(forkservers, "b")
    assert process_of(forkservers, "b").pid != first.pid


def test_a_forkserver_stays_while_it_has_a_user(made: Callable[..., Forkservers], gate: Gate) -> None:
    gate.open()
    forkservers = made(SHORT)
    for _ in range(2):
        forkservers.begin("a")
    warm_up(forkservers, "a")
    forkservers.end("a")
    forkservers.begin("b")
    forkservers.end("b")  # idle later than `a` would be
    eventually("the other has ended", lambda: not forkservers.is_running("b"))
    assert forkservers.warm == ["a"]
    forkservers.end("a")
    eventually("it has ended", lambda: not forkservers.is_running("a"))


def test_zero_idle_seconds_keep_it(made: Callable[..., Forkservers]) -> None:
    forkservers = made(0)
    forkservers.begin("b")
    warm_up(forkservers, "b")
    before = {*threading.enumerate()}
    forkservers.end("b")
    assert {*threading.enumerate()} <= before, "nothing waits for its end"
    assert forkservers.warm == ["b"]


def test_a_forkserver_that_is_not_kept_ends_with_its_last_user(made: Callable[..., Forkservers]) -> None:
    forkservers = made()
    forkservers.begin("b")
    process = process_of(forkservers, "b")
    warm_up(forkservers, "b")
    forkservers.end("b", keep=False)
    assert gone(process)
    assert not forkservers.is_running("b")


def test_one_killed_while_it_starts_is_replaced_under_the_wait(made: Callable[..., Forkservers], gate: Gate) -> None:
    forkservers = made()
    forkservers.begin("a")
    first = process_of(forkservers, "a")

    def replaced() -> bool:
        if not gone(first):
            first.kill()
        elif forkservers.client("a").pid != first.pid:
            gate.open()
        return True

    forkservers.warm_up("a", replaced, lambda _: None)
    assert forkservers.warm == ["a"]
    assert process_of(forkservers, "a").pid != first.pid


#: A module whose import needs a folder.
NEEDY = """
import os
os.listdir(os.path.join(os.path.dirname(__file__), "needed"))
"""


def test_one_whose_imports_fail_serves_nobody_and_is_started_until_they_work(gate: Gate) -> None:
    (gate.folder / "needy.py").write_text(NEEDY)
    env = sanitized_environment({**os.environ, "PYTHONPATH": os.pathsep.join([str(gate.folder), str(ROOT)])}, {})
    client = ForkserverClient("torch", ["worker.runners.runner", "needy"], env)
    forkservers = Forkservers({"torch": client}, LONG)
    pool = RunnerPool(forkservers, RunnerSettings("cpu", None, None))
    seen: list[frozenset[str]] = []
    pool.follow(lambda: seen.append(pool.frameworks))
    try:
        with pytest.raises(ForkserverUnavailable, match=r"does not start: FileNotFoundError: .*needed"):
            warm_up(forkservers, "torch")
        assert (pool.frameworks, seen) == (frozenset(), [frozenset()])
        assert pool.unusable["torch"].startswith("it cannot be loaded: FileNotFoundError")
        with pytest.raises(ForkserverUnavailable):
            pool.take("torch", lambda: None, lambda: None)
        (gate.folder / "needed").mkdir()
        eventually("it is warm", lambda: forkservers.warm)
        eventually("its jobs are taken", lambda: pool.frameworks == {"torch"})
        eventually("that is told", lambda: seen[-1] == {"torch"})
        assert pool.unusable == {}
    finally:
        pool.close()
        forkservers.close()


def test_a_wait_can_be_given_up_and_the_start_goes_on(made: Callable[..., Forkservers], gate: Gate) -> None:
    forkservers = made()
    with pytest.raises(ForkserverUnavailable, match="asked to stop before the a forkserver was warm"):
        forkservers.warm_up("a", lambda: False, lambda _: None)
    assert forkservers.is_running("a")
    gate.open()
    assert forkservers.client("a").wait_ready(120)


def test_closing_ends_one_that_starts_and_those_who_wait_for_it(made: Callable[..., Forkservers]) -> None:
    forkservers = made()
    said: list[str] = []
    waits = threading.Event()

    def wait() -> None:
        try:
            forkservers.warm_up("a", lambda: True, lambda _: waits.set())
        except ForkserverUnavailable as error:
            said.append(str(error))

    waiter = threading.Thread(target=wait)
    waiter.start()
    waits.wait()
    process = process_of(forkservers, "a")
    forkservers.close()
    waiter.join()
    assert gone(process)
    assert said == ["the a forkserver is not running"]
    forkservers.begin("a")
    assert not forkservers.is_running("a"), "closed is for good"


def test_the_spare_goes_with_its_forkserver_and_comes_with_the_next(made: Callable[..., Forkservers]) -> None:
    forkservers = made()
    pool = RunnerPool(forkservers, RunnerSettings("gpu", 1, None))

    def spare() -> psutil.Process | None:
        children = process_of(forkservers, "b").children() if forkservers.warm else []
        return children[0] if children else None

    pool.warm_in_background("b")
    pool.idle()
    first = eventually("there is a spare", spare)
    forkservers.begin("b")
    forkservers.end("b", keep=False)
    assert gone(first)
    pool.idle()
    runner = pool.take("b", lambda: None, lambda: None, 1)
    assert runner.handle.pid != first.pid
    runner.close()
    pool.idle()
    assert eventually("there is another", spare).pid != runner.handle.pid
    pool.close()


def test_a_runner_uses_its_forkserver_until_it_is_closed(made: Callable[..., Forkservers], gate: Gate) -> None:
    gate.open()
    forkservers = made(SHORT)
    pool = RunnerPool(forkservers, RunnerSettings("cpu", 1, None), keep_spare=False)
    runner = pool.take("a", lambda: None, lambda: None, 1)
    pool.warm_in_background("b")
    eventually("the other has ended", lambda: not forkservers.is_running("b"))
    assert pool.warm == ["a"]
    runner.close()
    eventually("it has ended", lambda: not forkservers.is_running("a"))


def test_a_job_of_one_framework_does_not_wait_for_the_start_of_another(made: Callable[..., Forkservers]) -> None:
    pool = RunnerPool(made(), RunnerSettings("gpu", 1, None))
    pool.warm_in_background("a")
    pool.idle()
    runner = pool.take("b", lambda: None, lambda: None, 1)
    assert pool.warm == ["b"]
    runner.close()
    pool.close()
