"""The calls that recond makes to one Triton server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import Message
from tritonclient.grpc import service_pb2 as pb

from recond_service.backends.triton import interface
from recond_service.backends.triton.regions import NAME_PREFIX, Region

_SERVICE = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name
_CALL_SECONDS = 5.0  # for the small calls
_LOAD_SECONDS = 120.0
_OPTIONS: Sequence[tuple[str, Any]] = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # A server that comes back is found within a second; the default pauses grow to minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1000),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.use_local_subchannel_pool", 1),
)


@dataclass(frozen=True, slots=True)
class Deployed:
    """A recond model that a Triton server has ready.

    Parameters
    ----------
    name, version, weights_sha256
        Which model of recond it serves.
    instances
        How many batches it computes at once.
    """

    name: str
    version: str
    weights_sha256: str
    instances: int


class Connection:
    """A gRPC channel to a Triton server. Calls raise `grpc.aio.AioRpcError`.

    Parameters
    ----------
    address
        ``HOST:PORT``.
    ca
        PEM file with the authorities that may vouch for the server; None for a connection without TLS.
    """

    def __init__(self, address: str, ca: Path | None) -> None:
        if ca is None:
            self._channel = grpc.aio.insecure_channel(address, _OPTIONS)
        else:
            self._channel = grpc.aio.secure_channel(address, grpc.ssl_channel_credentials(ca.read_bytes()), _OPTIONS)
        # Bytes in, bytes out: large messages are put together and taken apart beside the event loop.
        self._infer: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = self._channel.unary_unary(
            f"/{_SERVICE}/ModelInfer", None, None
        )

    async def infer(self, request: bytes) -> bytes:
        """Send a serialised `ModelInferRequest`; cancelled with the task that waits."""
        answer: bytes = await self._infer(request)
        return answer

    async def ready(self) -> bool:
        """Tell whether the server says that it is ready, which says nothing about its models."""
        answer = await self._call("ServerReady", pb.ServerReadyRequest(), pb.ServerReadyResponse)
        return bool(answer.ready)

    async def deployed(self) -> dict[str, Deployed]:
        """Return the recond models that the server has ready, by their names in recond."""
        request = pb.RepositoryIndexRequest(ready=True)
        index = await self._call("RepositoryIndex", request, pb.RepositoryIndexResponse)
        found = {}
        for model in index.models:
            if model.name.startswith(interface.PREFIX):
                answer = await self._call("ModelConfig", pb.ModelConfigRequest(name=model.name), pb.ModelConfigResponse)
                parameters = {key: value.string_value for key, value in answer.config.parameters.items()}
                if parameters.get(interface.INTERFACE_KEY) == interface.INTERFACE:
                    instances = sum(group.count * max(len(group.gpus), 1) for group in answer.config.instance_group)
                    name = parameters[interface.MODEL]
                    version, weights = parameters[interface.VERSION], parameters[interface.WEIGHTS]
                    found[name] = Deployed(name, version, weights, max(instances, 1))
        return found

    async def load_anew(self, model: str) -> None:
        """Have the server start the processes of a model anew. Loading alone does nothing as long as the files are the same.

        Parameters
        ----------
        model
            Name of the model in recond.
        """
        name = interface.PREFIX + model
        unload = pb.RepositoryModelUnloadRequest(model_name=name)
        await self._call("RepositoryModelUnload", unload, pb.RepositoryModelUnloadResponse)
        load = pb.RepositoryModelLoadRequest(model_name=name)
        await self._call("RepositoryModelLoad", load, pb.RepositoryModelLoadResponse, _LOAD_SECONDS)

    async def register(self, region: Region) -> None:
        """Have the server map a region."""
        request = pb.SystemSharedMemoryRegisterRequest(name=region.name, key=f"/{region.name}", byte_size=region.size)
        await self._call("SystemSharedMemoryRegister", request, pb.SystemSharedMemoryRegisterResponse)

    async def unregister(self, name: str) -> None:
        """Have the server forget a region. A server that still uses it refuses, or forgets it afterwards."""
        request = pb.SystemSharedMemoryUnregisterRequest(name=name)
        await self._call("SystemSharedMemoryUnregister", request, pb.SystemSharedMemoryUnregisterResponse)

    async def registered(self) -> list[str]:
        """Return the names of the regions of recond services that the server has mapped."""
        request = pb.SystemSharedMemoryStatusRequest()
        answer = await self._call("SystemSharedMemoryStatus", request, pb.SystemSharedMemoryStatusResponse)
        return [name for name in answer.regions if name.startswith(NAME_PREFIX)]

    async def _call(
        self, method: str, request: Message, response: type[Message], seconds: float = _CALL_SECONDS
    ) -> Any:  # noqa: ANN401
        call = self._channel.unary_unary(
            f"/{_SERVICE}/{method}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=response.FromString,
        )
        return await call(request, timeout=seconds)

    async def close(self) -> None:
        """Close the channel."""
        await self._channel.close()
