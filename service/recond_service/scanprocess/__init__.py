"""The limited process that parses one request's untrusted bytes, conditions them, and finishes its images.

One request at a time, and only requests of one connection, in a process that is forked in milliseconds from a small `zygote` with
the parsers loaded and no torch. It sees no file of the server, has bounded memory, time and descriptors, and whatever kills it ends
one request only.
"""

from recond_service.scanprocess.host import ScanProcess, ScanProcessHost

__all__ = ["ScanProcess", "ScanProcessHost"]
