"""One scan in its sandbox: untrusted bytes are parsed, conditioned into frames, and the images scored and written to files.

`process` runs in the sandbox, `pool` makes sandboxes for scans, `messages` is what passes between them and the pipeline.
"""

from recond_service.scan.pool import ScanSandbox, scan_sandboxes

__all__ = ["ScanSandbox", "scan_sandboxes"]
