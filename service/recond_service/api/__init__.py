"""The wire: gRPC services, limits, deadlines and errors. Nothing here parses scans or computes."""

from recond_service.api.server import Server

__all__ = ["Server"]
