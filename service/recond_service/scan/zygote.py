"""The process that sandboxes of scans are forked from: parsers loaded, no threads, no torch.

Started as ``python -P -m recond_service.scan.zygote FD``; see `recond_service.processes.fork_server` for what it does.
"""

from __future__ import annotations

import logging
import sys

from recond_service.sandbox.child import serve_sandboxes
from recond_service.scan.messages import ToScan
from recond_service.scan.process import serve_scan
from recond_service.scan.warm_up import warm_up

if __name__ == "__main__":
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # warns that it has no cache, which a sandbox cannot have
    serve_sandboxes(int(sys.argv[1]), ToScan, serve_scan, warm_up)
