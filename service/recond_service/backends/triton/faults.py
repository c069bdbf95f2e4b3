"""What an error of a call to a Triton server means: the frames, the device, or the server."""

from __future__ import annotations

import grpc
import grpc.aio

from recond_service.backends.backend import ServerLostError, TooLargeError
from recond_service.backends.triton import interface
from recond_service.types import DefectError, RecondError

_LOST = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.UNKNOWN,
}

_EXITING = "Server exiting"
_REGION = "shared memory region"  # one that the server does not know any more: it was started anew meanwhile


def answered(error: grpc.aio.AioRpcError) -> bool:
    """Tell whether a recond model on the server answered, so that the server is done with the request."""
    return interface.read_error(error.details() or "") is not None


def lost(error: grpc.aio.AioRpcError) -> bool:
    """Tell whether the error says that the server, or the process in it that runs the model, is out of order."""
    if answered(error):
        return False
    return error.code() in _LOST or process_died(error) or _REGION in (error.details() or "")


def process_died(error: grpc.aio.AioRpcError) -> bool:
    """Tell whether a Python process of the server died. Triton says that the model is ready all the same."""
    return not answered(error) and "Stub process" in (error.details() or "")


def others_go_on(error: grpc.aio.AioRpcError) -> bool:
    """Tell whether other batches that the server has may still end well.

    They do when a single model's process died, and when the server shuts down, which it says to new batches only.
    """
    return process_died(error) or _EXITING in (error.details() or "")


def meaning(error: grpc.aio.AioRpcError, server: str, *, begun: bool) -> RecondError | ServerLostError | TooLargeError:
    """Return what the scheduler is to be told.

    Parameters
    ----------
    error
        What came back.
    server
        Name of the server.
    begun
        The server may have begun to compute the batch.
    """
    text = error.details() or ""
    own = interface.read_error(text)
    if isinstance(own, interface.DeviceMemoryError):
        return TooLargeError(f"Triton server {server}: {own}")
    if own is not None:
        return own
    if lost(error):
        refused = _REGION in text or _EXITING in text
        return ServerLostError(f"Triton server {server}: {text}", begun=begun and not refused)
    return DefectError(
        f"Triton server {server} answered {error.code().name}: {text}; report the request id to the administrator",
        reason="TRITON_ERROR",
    )


def text_of(error: Exception) -> str:
    """Return what an error says, in the words of the server where they are its."""
    if isinstance(error, grpc.aio.AioRpcError):
        return error.details() or str(error.code().name)
    return str(error)
