"""Processes that handle untrusted bytes: what they may do, how they start, and what their death means.

One request at a time, and only requests of one client, in a process that is forked in milliseconds from a small zygote with the
parsers loaded and no torch. It sees no file of the server, has bounded memory, time and descriptors, and whatever kills it ends
one request only.
"""

from recond_models.confinement import landlock_version
from recond_service.sandbox.messages import FromSandbox, OpenSandbox, SandboxDefect, SandboxError
from recond_service.sandbox.pool import Sandbox, SandboxPool

__all__ = [
    "FromSandbox",
    "OpenSandbox",
    "Sandbox",
    "SandboxDefect",
    "SandboxError",
    "SandboxPool",
    "landlock_version",
]
