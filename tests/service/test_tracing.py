"""Spans as a collector of OpenTelemetry gets them."""

from collections import defaultdict
from concurrent import futures

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.trace.v1 import trace_pb2
from recond_testing import collect, fastmri_file, random_kspace, requests_for, running

from recond.v1 import reconstruction_pb2_grpc as pb_grpc
from recond_service.telemetry import RequestTrace, Tracing

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    def __init__(self):
        self.spans = []

    def Export(self, request, context):  # noqa: N802 - named by the proto
        for resource in request.resource_spans:
            for scope in resource.scope_spans:
                self.spans += scope.spans
        return trace_service_pb2.ExportTraceServiceResponse()


@pytest.fixture
def collector():
    server = grpc.server(futures.ThreadPoolExecutor(2))
    servicer = Collector()
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(servicer, server)
    servicer.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    yield servicer
    server.stop(None).wait()


def test_a_request_leaves_its_spans_at_the_collector(tmp_path, collector):
    data = fastmri_file(random_kspace(3, 4, 32, 24))
    with (
        running(tmp_path / "log", "--otlp-endpoint", collector.address) as service,
        grpc.insecure_channel(service.address) as channel,
    ):
        stub = pb_grpc.ReconstructionServiceStub(channel)
        good = stub.Reconstruct(requests_for(data, model="rss"), timeout=60, metadata=[("traceparent", PARENT)])
        answer = collect(good)
        with pytest.raises(grpc.RpcError):
            collect(stub.Reconstruct(requests_for(b"no scan at all", model="rss"), timeout=60))
    spans = defaultdict(list)
    for span in collector.spans:
        spans[span.name].append(span)
    (root,) = [each for each in spans["reconstruct"] if each.status.code == trace_pb2.Status.STATUS_CODE_OK]
    (failed,) = [each for each in spans["reconstruct"] if each.status.code == trace_pb2.Status.STATUS_CODE_ERROR]
    assert failed.status.message == "INVALID_ARGUMENT"
    assert (root.trace_id.hex(), root.parent_span_id.hex()) == tuple(PARENT.split("-")[1:3])
    frames = [each for each in spans["frame"] if each.trace_id == root.trace_id]
    assert len(frames) == answer.summary.images
    for name in ("upload", "conditioning", "encode"):
        (stage,) = [each for each in spans[name] if each.trace_id == root.trace_id]
        assert stage.parent_span_id == root.span_id
        assert root.start_time_unix_nano <= stage.start_time_unix_nano <= stage.end_time_unix_nano
        assert stage.end_time_unix_nano <= root.end_time_unix_nano
    ids = {each.span_id for each in frames}
    for name in ("queue", "compute"):
        assert {each.parent_span_id for each in spans[name]} == ids
    linked = {link.span_id for batch in spans["batch"] for link in batch.links}
    assert linked == ids
    attributes = {each.key: each.value for each in spans["batch"][0].attributes}
    assert attributes["recond.model"].string_value == "rss"
    assert attributes["recond.compute_seconds"].double_value > 0


def test_without_an_endpoint_nothing_is_recorded():
    tracing = Tracing()
    trace = tracing.request("id", {"traceparent": PARENT})
    assert type(trace) is RequestTrace
    assert trace.frame_arrived(0) is None
    tracing.batch({"a": 1}, 0.1, [None])
    tracing.close()
