"""The scheduler against whatever happens, in virtual time: hypothesis chooses the events, the invariants hold after each."""

import asyncio
import itertools
import math

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from virtual_servers import CG, RSS, VirtualServer, VirtualTime, frame_job, scheduler_on, settle

from recond_service.types import DeadlineExceededError, DefectError, LimitExceededError, Priority, UnavailableError

CLIENTS = ("hospital", "scanner", "university")
LAWS = {
    "cpu": lambda frames, coils: (0.02 * frames + 0.002 * coils) * (1 + 0.15 * (frames - 1)),
    "gpu": lambda frames, coils: 0.05 + 0.001 * frames + 0.0001 * coils,
    "flat": lambda frames, coils: 0.03 * frames,
}


class WatchedServer(VirtualServer):
    """Checks every batch at the moment when it is handed over."""

    machine: "SchedulerStates"

    async def run(self, batch):
        self.machine.check_batch(self, batch)
        return await super().run(batch)


class SchedulerStates(RuleBasedStateMachine):
    @initialize(
        servers=st.lists(st.sampled_from([None, {"rss"}, {"cg-sense"}]), min_size=1, max_size=3),
        law=st.sampled_from(sorted(LAWS)),
        most=st.sampled_from([2, 5, 1 << 20]),
    )
    def start(self, servers, law, most):
        self.loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self.loop)
        self.time = VirtualTime()
        self.servers = []
        for number, models in enumerate(servers):
            server = WatchedServer(self.time, f"s{number}", seconds=LAWS[law], most_frames=most, models=models)
            server.machine = self
            server.concurrency = 1 + number % 2
            server.on_down = lambda server=server: self.lost.append(server)
            self.servers.append(server)
        self.lost = []
        self.jobs = []
        self.by_frame = {}
        self.runs = {}
        self.bad, self.deadly, self.struck = set(), set(), set()
        self.loop.run_until_complete(self._start())

    async def _start(self):
        self.scheduler = scheduler_on(self.time, *self.servers, ageing_seconds=1.0)
        self.came, self.taken = {}, {}  # in what order frames began to wait and were taken
        order, queue = itertools.count(), self.scheduler._waiting
        add, take = queue.add, queue.take

        def watched_add(job, now):
            self.came[job] = next(order)
            add(job, now)

        def watched_take(jobs, now):
            self.taken.update(dict.fromkeys(jobs, next(order)))
            take(jobs, now)

        queue.add, queue.take = watched_add, watched_take

    def do(self, coroutine):
        self.loop.run_until_complete(coroutine)

    def may_run(self, server, job):
        return server.has(job.model) or not any(other.has(job.model) for other in self.servers)

    def check_batch(self, server, batch):
        jobs = [self.by_frame[frame] for frame in batch.frames]
        wanted = [held for held in server.held if len(held.batch.withdrawn) < len(held.batch.frames)]
        assert len(wanted) <= server.concurrency, "one batch ahead at most"
        assert len({job.bucket for job in jobs}) == 1, "frames of several buckets in a batch"
        assert self.may_run(server, jobs[0]), "on a server without the model"
        assert len(set(jobs)) == len(jobs), "a frame twice in a batch"
        for job in jobs:
            assert not job.done.done() or job.place in batch.withdrawn
            others = [held.batch for other in self.servers for held in other.held if job.frame in held.batch.frames]
            assert all(len(other.withdrawn) == len(other.frames) for other in others), "runs twice"
            assert job.deadline is None or self.time.now < job.deadline
            assert len(jobs) == 1 or not job.alone
            assert not job.tries or not wanted, "beside a frame that may have brought a server down"
            self.runs[job] = self.runs.get(job, 0) + 1
        assert not any(self.by_frame[frame].tries for held in wanted for frame in held.batch.frames)
        handed = set(jobs)
        for waiting in self.jobs:  # earlier deadlines first, among frames that could have gone
            if waiting in handed or waiting.done.done() or waiting.batch is not None or waiting.alone or waiting.tries:
                continue
            for job in jobs:
                if waiting.recalled or job.recalled or self.came[waiting] > self.taken[job]:
                    continue  # the last came when the batch was made, but not yet with the server
                same = (waiting.priority, waiting.client, waiting.bucket) == (job.priority, job.client, job.bucket)
                if same and not job.alone:
                    assert (job.due, job.number) < (waiting.due, waiting.number), "a later deadline went first"

    @rule(
        client=st.sampled_from(CLIENTS),
        priority=st.sampled_from(list(Priority)),
        rows=st.sampled_from([4, 6, 8]),
        coils=st.sampled_from([[4], [8, 16], [6, 6, 6, 6], [12] * 9]),
        allowed=st.one_of(st.none(), st.floats(0.01, 5.0)),
        model=st.sampled_from([RSS, CG]),
    )
    def submit(self, client, priority, rows, coils, allowed, model):
        async def submit():
            for count in coils:
                deadline = None if allowed is None else self.time.now + allowed
                job = frame_job(client, priority, deadline, rows, count, model)
                self.jobs.append(job)
                self.by_frame[job.frame] = job
                self.scheduler.submit(job)
            await settle()

        self.do(submit())

    @rule(kind=st.sampled_from(["bad", "deadly"]), coils=st.sampled_from([4, 8]))
    def submit_trouble(self, kind, coils):
        async def submit():
            job = frame_job("hospital", Priority.CLINICAL, None, 4, coils)
            self.jobs.append(job)
            self.by_frame[job.frame] = job
            (self.bad if kind == "bad" else self.deadly).add(job)
            for server in self.servers:
                (server.poison if kind == "bad" else server.deadly).add(job.frame)
            self.scheduler.submit(job)
            await settle()

        self.do(submit())

    @rule(seconds=st.sampled_from([0.001, 0.02, 0.1, 0.5, 2.0]))
    def time_passes(self, seconds):
        self.do(self.time.advance(seconds))

    @precondition(lambda self: any(not job.done.done() for job in self.jobs))
    @rule(which=st.integers(0, 1000))
    def withdraw(self, which):
        open_jobs = [job for job in self.jobs if not job.done.done()]
        job = open_jobs[which % len(open_jobs)]
        batch = job.batch
        job.done.cancel()
        self.do(settle())
        assert batch is None or job.place in batch.withdrawn, "the server was not told"

    @rule(which=st.integers(0, 2))
    def server_dies(self, which):
        server = self.servers[which % len(self.servers)]
        if server.up:
            for held in server.held:
                if held.started is not None:
                    self.struck |= {self.by_frame[frame] for frame in held.batch.frames}
            server.lose()
            self.do(settle())

    @precondition(lambda self: not all(server.up for server in self.servers))
    @rule()
    def server_comes_up(self):
        self.do(self._restart())

    async def _restart(self):
        for server in self.servers:
            if not server.up:
                server.up = True
                self.scheduler.dispatch()
                break
        await settle()

    @invariant()
    def every_frame_is_somewhere(self):
        running = {frame for server in self.servers for held in server.held for frame in held.batch.frames}
        waiting = 0
        for job in self.jobs:
            if not job.done.done():
                handed = job.frame in running
                assert handed == (job.batch is not None)
                waiting += not handed
        assert waiting == self.scheduler.waiting

    @invariant()
    def nothing_idles_while_frames_wait(self):
        idle = [server for server in self.servers if server.up and not server.held]
        waiting = [job for job in self.jobs if not job.done.done() and job.batch is None]
        if any(self.may_run(server, job) for server in idle for job in waiting):
            assert self.scheduler._timer is not None, "held back without a time to look again"

    @invariant()
    def every_answer_is_right(self):
        for job in self.jobs:
            if job.done.done() and not job.done.cancelled():
                error = job.done.exception()
                if error is None:
                    assert job.done.result().frame.image.content is job.frame
                    assert job not in self.bad | self.deadly
                elif isinstance(error, DefectError):
                    assert job in self.bad, "an innocent frame got the error of another"
                elif isinstance(error, UnavailableError):
                    assert job.tries == 2
                    assert job in self.deadly | self.struck, "an innocent frame was given up for the deeds of another"
                else:
                    assert isinstance(error, DeadlineExceededError | LimitExceededError)
                    assert isinstance(error, LimitExceededError) or job.deadline is not None

    def teardown(self):
        if not hasattr(self, "loop"):
            return

        async def finish():
            for _ in range(400):
                await self.time.advance(1.0)
                for _ in self.servers:
                    await self._restart()
                if all(job.done.done() for job in self.jobs):
                    break
            await self.time.advance(60.0)
            assert all(job.done.done() for job in self.jobs), "a frame was forgotten"
            await self.scheduler.close()
            await self.loop.shutdown_default_executor()
            for job in self.jobs:
                assert job.frame.block.closed == 1, "the memory of a frame was not given back, or twice"
            computed = [frame for server in self.servers for frame in server.computed]
            assert len(computed) == len(set(computed)), "computed twice"
            assert self.scheduler.backlog_seconds() <= math.inf
            for job in self.jobs:
                if job.done.cancelled():
                    continue
                job.done.exception()

        self.do(finish())
        self.loop.close()
        asyncio.set_event_loop(None)


TestSchedulerStates = SchedulerStates.TestCase
TestSchedulerStates.settings = settings(
    max_examples=100, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
