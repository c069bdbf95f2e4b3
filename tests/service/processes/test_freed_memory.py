"""Freed memory: kept while there is work, given back when there is none."""

from __future__ import annotations

import subprocess
import sys

from recond_service.processes import FreedMemory


def test_memory_is_given_back_once_after_a_while_without_work():
    now, given = [0.0], []
    memory = FreedMemory(3.0, lambda: now[0], lambda: given.append(now[0]))

    def look(at: float, *, working: bool) -> None:
        now[0] = at
        memory.look(working=working)

    for at in range(10):
        look(at, working=False)  # nothing was done yet: nothing to give back
    look(10, working=True)
    look(12.5, working=False)
    look(13, working=True)
    look(15, working=False)
    assert given == []
    for at in (16, 17, 30):
        look(at, working=False)
    assert given == [16]
    look(40, working=True)
    look(44, working=False)
    assert given == [16, 44]


PROGRAM = """
import threading, psutil, numpy as np
from recond_service.processes import keep_freed_memory
from recond_service.processes.freed_memory import give_back_freed_memory
keep_freed_memory(1 << 30)
def work():
    for _ in range(3):
        blocks = [np.ones(1 << 17) for _ in range(60)]
        small = [bytes(600) for _ in range(2000)]
        kept.append(blocks.pop(30))
kept = []
threads = [threading.Thread(target=work) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
process = psutil.Process()
before = process.memory_info().rss
give_back_freed_memory()
print(before, process.memory_info().rss)
"""


def test_what_is_freed_between_blocks_in_use_is_given_back_too():
    output = subprocess.run([sys.executable, "-c", PROGRAM], check=True, capture_output=True, text=True).stdout
    before, after = map(int, output.split())
    assert before - after > 40e6
