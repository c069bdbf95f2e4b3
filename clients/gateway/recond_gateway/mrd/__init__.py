"""MRD version 1, the streaming protocol of scanners, without sockets: bytes in, messages out, and back."""
