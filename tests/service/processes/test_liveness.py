"""When a silent process is given up, on a clock of the test's own."""

import os
import signal
import subprocess
import sys

import pytest

from recond_service.processes.liveness import Activity, Pulse, activity_of

LIMIT = 1.6
STEP = LIMIT / 8


class Process:
    """A process that uses so many CPU seconds, or waits so many for a processor, in every second."""

    def __init__(self) -> None:
        self.now = 0.0
        self.cpu = self.waits = 0.0
        self.stopped = self.gone = False
        self.looks = 0
        self._activity = [0.0, 0.0]
        self.pulse = Pulse(LIMIT, self.look, lambda: self.now)

    def look(self) -> Activity | None:
        self.looks += 1
        return None if self.gone else Activity(self.stopped, self._activity[0], {7: self._activity[1]})

    def pass_time(self, seconds: float, step: float = STEP) -> str:
        """Let time pass, and return what was wrong with the process; empty if nothing was."""
        end = self.now + seconds
        while self.now < end - 1e-9:
            self.now += step
            self._activity[0] += self.cpu * step
            self._activity[1] += self.waits * step
            problem = self.pulse.tick()
            if problem:
                return problem
        return ""


@pytest.fixture
def process() -> Process:
    return Process()


def test_a_process_that_is_heard_lives_whatever_it_does(process):
    for _ in range(50):
        assert process.pass_time(LIMIT * 0.7) == ""
        process.pulse.heard()


@pytest.mark.parametrize("fault", ["stopped", "idle"])
def test_a_stopped_or_idle_process_is_given_up_after_the_limit(process, fault):
    process.cpu = 1.0
    assert process.pass_time(5 * STEP) == ""
    process.pulse.heard()
    if fault == "stopped":
        process.stopped = True
    else:
        process.cpu = 0.02  # a thread that waits for a lock and looks now and then
    problem = process.pass_time(10.0)
    assert fault in problem
    assert LIMIT <= process.now - 5 * STEP <= LIMIT + 2 * STEP


@pytest.mark.parametrize("way", ["cpu", "waits"])
def test_a_process_that_computes_or_has_to_wait_gets_ten_times_as_long(process, way):
    setattr(process, way, 0.6)
    assert process.pass_time(9 * LIMIT) == ""
    assert "silent" in process.pass_time(20 * LIMIT)
    assert process.now <= 11 * LIMIT + 2 * STEP


def test_a_process_that_stops_computing_is_given_up_after_another_limit(process):
    process.cpu = 1.0
    assert process.pass_time(3 * LIMIT) == ""
    process.cpu = 0.0
    assert "idle" in process.pass_time(10 * LIMIT)
    assert process.now <= 5 * LIMIT + 2 * STEP


def test_a_process_that_is_gone_is_given_up_at_once(process):
    process.gone = True
    assert process.pass_time(STEP) == "the process is gone"


def test_time_in_which_nobody_could_listen_is_no_silence(process):
    process.pass_time(STEP)
    process.now += 100.0
    assert process.pulse.tick() == ""
    process.pulse.heard()
    assert process.pass_time(0.85 * LIMIT) == ""


def test_a_process_that_speaks_is_not_looked_at_all_the_time(process):
    for _ in range(10):
        process.pass_time(2 * STEP)
        process.pulse.heard()
    assert process.looks <= 10


def test_real_processes_show_what_they_do():
    script = "import sys\nprint(flush=True)\nif sys.stdin.readline() == 'work\\n':\n    while True: pass"
    child = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    )
    try:
        child.stdout.readline()
        idle = activity_of(child.pid)
        assert not idle.stopped
        child.stdin.write("work\n")
        while True:
            now = activity_of(child.pid)
            if now.effort_since(idle) > 0.2:
                break
        assert now.cpu_seconds > idle.cpu_seconds
        os.kill(child.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WNOWAIT)
        assert activity_of(child.pid).stopped
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert activity_of(child.pid).stopped
    finally:
        child.kill()
        child.wait(10)
        child.stdin.close()
        child.stdout.close()
    assert activity_of(child.pid) is None
