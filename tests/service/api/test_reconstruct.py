"""What a client gets for good data."""

import io
from pathlib import Path

import grpc
import h5py
import numpy as np
import pytest
from recond_testing import (
    collect,
    fastmri_file,
    random_kspace,
    reconstruct,
    requests_for,
    rss_of,
)

from recond.v1 import reconstruction_pb2 as pb
from recond_models.simulate import write_ismrmrd
from recond_models.simulate.scan import ScanSettings, simulate


def test_zero_filled_images_are_the_root_sum_of_squares(stub):
    kspace = random_kspace(3, 4, 32, 24)
    answer = reconstruct(stub, fastmri_file(kspace), model="rss")
    np.testing.assert_allclose(answer.volume, rss_of(kspace), rtol=1e-5)
    summary = answer.summary
    assert list(summary.shape) == [3, 32, 24]
    assert (summary.model, summary.images, len(answer.accepted), len(answer.plan)) == ("rss", 3, 1, 1)
    seconds = {field.name: getattr(summary.seconds, field.name) for field in summary.seconds.DESCRIPTOR.fields}
    assert set(seconds) == {"upload", "ingest", "conditioning", "queue", "compute", "encode", "total"}
    assert all(value > 0 for value in seconds.values()), seconds


@pytest.mark.parametrize("chunk", [777, 4 << 20])
def test_chunks_may_have_any_size(stub, chunk):
    kspace = random_kspace(1, 2, 256, 200)
    data = fastmri_file(kspace)
    answer = collect(stub.Reconstruct(requests_for(data, min(chunk, 3 << 20), model="rss"), timeout=60))
    np.testing.assert_allclose(answer.volume, rss_of(kspace), rtol=1e-5)


@pytest.mark.parametrize("model", ["rss", "cg-sense", "l1-wavelet"])
def test_images_are_the_same_whatever_the_scale_of_the_input(stub, model):
    scan = simulate(
        ScanSettings(phantom="shepp-logan", slices=1, rows=64, columns=64, acceleration=2, noise=0, coils=4)
    )
    kspace = scan.kspace[:, :, ::2].astype(np.complex128) if scan.kspace.shape[2] == 128 else scan.kspace
    mask = scan.lines
    kspace = np.where(mask, kspace, 0) / np.abs(kspace).max()
    base = None
    for scale in (1.0, 1e-6, 3.7e5, 1e12):
        answer = reconstruct(stub, fastmri_file((kspace * scale).astype(np.complex64), mask=mask), model=model)
        volume = answer.volume / scale
        base = volume if base is None else base
        np.testing.assert_allclose(volume, base, atol=2e-4 * base.max())


def test_reference_in_the_file_gives_figures(stub):
    kspace = random_kspace(2, 3, 40, 40)
    reference = rss_of(kspace)
    summary = reconstruct(stub, fastmri_file(kspace, reconstruction_rss=reference), model="rss").summary
    assert summary.reference == "file"
    assert summary.figures.ssim == pytest.approx(1, abs=1e-6)
    assert summary.figures.nmse < 1e-10
    assert summary.figures.psnr > 90
    without = reconstruct(stub, fastmri_file(kspace), model="rss").summary
    assert not without.figures.HasField("ssim")
    assert without.figures.HasField("noise_level")
    assert without.reference == ""


def test_undersampling_on_request_scores_against_the_full_data(stub):
    kspace = random_kspace(1, 4, 64, 96)
    spec = pb.Undersampling(kind=pb.UNDERSAMPLING_KIND_EQUISPACED, acceleration=4, center_fraction=0.08)
    answer = reconstruct(stub, fastmri_file(kspace), model="rss", undersampling=spec)
    assert answer.summary.reference == "undersampling"
    assert 0 < answer.summary.figures.ssim < 0.95
    masked = np.zeros_like(kspace)
    from recond_models.masks import mask_for

    mask = mask_for("equispaced", 96, 4, 0.08, "scan.h5")
    masked[..., mask] = kspace[..., mask]
    np.testing.assert_allclose(answer.volume, rss_of(masked), rtol=1e-4)


def test_every_output_file_is_made(stub):
    kspace = random_kspace(2, 3, 40, 32)
    formats = [pb.OUTPUT_FORMAT_FASTMRI_HDF5, pb.OUTPUT_FORMAT_MRD, pb.OUTPUT_FORMAT_NIFTI, pb.OUTPUT_FORMAT_PNG]
    answer = reconstruct(stub, fastmri_file(kspace), model="rss", outputs=formats, omit_images=True)
    assert not answer.messages
    assert answer.summary.images == 2
    with h5py.File(io.BytesIO(answer.files[pb.OUTPUT_FORMAT_FASTMRI_HDF5])) as file:
        np.testing.assert_allclose(file["reconstruction"][:], rss_of(kspace), rtol=1e-5)
    assert answer.files[pb.OUTPUT_FORMAT_NIFTI][:2] == b"\x1f\x8b"
    assert answer.files[pb.OUTPUT_FORMAT_PNG][:4] == b"\x89PNG"
    assert answer.files[pb.OUTPUT_FORMAT_MRD][:4] == b"\x89HDF"


def test_large_image_comes_in_whole_rows(stub):
    kspace = random_kspace(1, 1, 1100, 600)
    answer = reconstruct(stub, fastmri_file(kspace), model="rss")
    assert len(answer.messages) > 1
    assert all(len(message.pixels) <= 1 << 20 for message in answer.messages)
    np.testing.assert_allclose(answer.volume, rss_of(kspace), rtol=1e-4, atol=1e-5)


def test_arrays_need_no_file(stub):
    kspace, mask = random_kspace(2, 3, 24, 20), np.arange(20) % 2 == 0
    parts = [
        pb.Part(role=pb.PART_ROLE_KSPACE, format=pb.PART_FORMAT_ARRAY, size_bytes=kspace.nbytes, shape=kspace.shape),
        pb.Part(role=pb.PART_ROLE_MASK, format=pb.PART_FORMAT_ARRAY, size_bytes=mask.nbytes, shape=mask.shape),
    ]

    def requests():
        yield pb.ReconstructRequest(spec=pb.ReconstructSpec(parts=pb.Parts(parts=parts), model="rss"))
        for number, array in enumerate((kspace, mask)):
            yield pb.ReconstructRequest(chunk=pb.Chunk(part=number, data=array.tobytes()))

    answer = collect(stub.Reconstruct(requests(), timeout=60))
    np.testing.assert_allclose(answer.volume, rss_of(np.where(mask, kspace, 0)), rtol=1e-5)


def test_auto_says_what_it_chose_and_why(stub, tmp_path: Path):
    plans = {}
    for acceleration in (1, 2, 4):
        path = tmp_path / f"{acceleration}.h5"
        scan = simulate(ScanSettings(phantom="shepp-logan", slices=1, rows=64, columns=64, acceleration=acceleration))
        write_ismrmrd.write(scan, path)
        answer = reconstruct(stub, path.read_bytes())
        plans[acceleration] = answer.plan[0]
        assert answer.summary.model == answer.plan[0].model
    assert plans[1].model == "cg-sense"  # whitened, so that sensitivities combine the coils best
    assert plans[2].model == "cg-sense"
    assert all(plan.reason for plan in plans.values())


def test_requests_run_side_by_side_and_keep_their_images_apart(stub):
    scans = [random_kspace(4, 2, 32, 32, seed=seed) for seed in range(6)]
    calls = [stub.Reconstruct(requests_for(fastmri_file(scan), model="rss"), timeout=60) for scan in scans]
    for scan, call in zip(scans, calls, strict=True):
        np.testing.assert_allclose(collect(call).volume, rss_of(scan), rtol=1e-5)


def test_log_and_metrics_tell_about_the_request(service, stub):
    before = service.metrics()
    answer = reconstruct(stub, fastmri_file(random_kspace(1, 2, 16, 16)), model="rss")
    request_id = answer.accepted[0].request_id
    (ended,) = [event for event in service.events("request-ended") if event["request_id"] == request_id]
    assert (ended["status"], ended["model"]) == ("OK", "rss")
    assert set(ended["stages"]) == {
        "admission",
        "upload",
        "ingest",
        "conditioning",
        "queue",
        "compute",
        "encode",
        "total",
    }
    after = service.metrics()
    assert after['recond_requests_total{status="OK"}'] == before.get('recond_requests_total{status="OK"}', 0) + 1
    assert after['recond_images_total{model="rss"}'] == before.get('recond_images_total{model="rss"}', 0) + 1
    assert after["recond_requests_in_flight"] == 0
    assert after["recond_bytes_in_flight"] == 0


def test_other_services_are_there(service):
    from grpc_health.v1 import health_pb2, health_pb2_grpc
    from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

    from recond.v1 import model_pb2, model_pb2_grpc

    with grpc.insecure_channel(service.address) as channel:
        models = model_pb2_grpc.ModelServiceStub(channel)
        listed = models.ListModels(model_pb2.ListModelsRequest()).models
        assert [model.name for model in listed] == [
            "cg-sense", "ensemble", "l1-wavelet", "rss", "tv", "unrolled-brain", "unrolled-brain-fast",
        ]  # fmt: skip
        assert all(model.ready and model.description and model.reference for model in listed)
        assert models.GetModel(model_pb2.GetModelRequest(name="rss")).model.kind == "classical"
        with pytest.raises(grpc.RpcError) as caught:
            models.GetModel(model_pb2.GetModelRequest(name="magic"))
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        health = health_pb2_grpc.HealthStub(channel)
        for name in ("", "recond.v1.ReconstructionService", "recond.v1.ModelService", "rss", "cg-sense", "l1-wavelet"):
            answer = health.Check(health_pb2.HealthCheckRequest(service=name))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING, name
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        (answer,) = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(iter([request]))
        names = {item.name for item in answer.list_services_response.service}
        assert {"recond.v1.ReconstructionService", "recond.v1.ModelService", "grpc.health.v1.Health"} <= names
