"""The synchronous client."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import Self, TypeVar

from numpy.typing import ArrayLike

from recond_client.acquisitions import AcquisitionBatch
from recond_client.analysis import (
    Analysis,
    Comparison,
    Images,
    Visit,
    analysis_request,
    analysis_upload,
    compare_request,
)
from recond_client.calls import Connection, ImageStream
from recond_client.channel import Endpoint, Pem
from recond_client.errors import RecondError, RetryLaterError
from recond_client.model import Model, ModelHistory
from recond_client.progress import ProgressCallback, ProgressReporter
from recond_client.result import Result
from recond_client.retry import Clock, RetryPolicy, Schedule, check_timeout
from recond_client.spec import Options, PartialFourier, Priority, file_request, names_of, stream_request
from recond_client.upload import Source, stream_data, upload_of

Answer = TypeVar("Answer")


class Client:
    """A connection to a reconstruction service. Safe to use from several threads.

    Parameters
    ----------
    target
        ``HOST:PORT`` of the service, or several: ``ipv4:10.0.0.5:50051,10.0.0.6:50051``.
    ca, certificate, key
        PEM files or their bytes: the authorities that vouch for the service, and what this client shows of itself (mutual
        TLS). Any of them turns TLS on.
    tls
        True for TLS with the system's authorities.
    retry
        When to try again.
    clock, sleep
        Where time comes from, and how to let it pass.

    Raises
    ------
    InputError
        If a certificate cannot be read.

    Examples
    --------
    >>> with Client("localhost:50051") as client:  # doctest: +SKIP
    ...     result = client.reconstruct("scan.h5", model="cg-sense")
    """

    def __init__(
        self,
        target: str,
        *,
        ca: Pem | None = None,
        certificate: Pem | None = None,
        key: Pem | None = None,
        tls: bool | None = None,
        retry: RetryPolicy | None = None,
        clock: Clock | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._connection = Connection(Endpoint(target, ca, certificate, key, tls))
        self._retry = retry or RetryPolicy()
        self._clock = clock or Clock()
        self._sleep = sleep

    def close(self) -> None:
        """Close the connection; calls that still run fail."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def reconstruct(
        self,
        source: Source | None = None,
        *,
        kspace: ArrayLike | None = None,
        mask: ArrayLike | None = None,
        reference: Source | ArrayLike | None = None,
        model: str = "auto",
        model_version: str = "",
        undersample: str | None = None,
        outputs: Sequence[str] = (),
        heads: Sequence[str] = (),
        attention: bool = False,
        priority: Priority = "clinical",
        images: bool = True,
        partial_fourier: PartialFourier = "zero-fill",
        virtual_coils: int = 0,
        coil_energy: float = 0.0,
        stack: str = "",
        complex_images: bool = False,
        uncertainty: bool = False,
        timeout: float | None = None,
        on_progress: ProgressCallback | None = None,
    ) -> Result:
        """Reconstruct one scan.

        Failed attempts are repeated as the `RetryPolicy` allows, unless something was delivered already.

        Parameters
        ----------
        source
            Path of an ISMRMRD, MRD version 2 or fastMRI file or of either file of a BART pair; or bytes; or a seekable binary
            file object.
        kspace
            Instead of `source`: complex (slices, coils, rows, columns), or (coils, rows, columns) for one slice; centred,
            rows = readout.
        mask
            With `kspace`: (columns) or (rows, columns), nonzero where measured.
        reference
            Images to score against: a file, or real (slices, rows, columns).
        model, model_version
            What to run; ``"auto"`` lets the service choose.
        undersample
            ``"KIND:R[:CENTRE]"``: undersample fully sampled data first and score against the full data; KIND is
            ``random``, ``equispaced`` or ``equispaced-fraction``.
        outputs
            Endings of files to encode: ``.h5``, ``.mrd``, ``.nii.gz``, ``.png``.
        heads
            Names of the heads to run on the images.
        attention
            True for the attention maps of heads that classify, in `HeadResult.attention` and in the output files.
        priority
            ``"stat"``, ``"clinical"`` or ``"research"``.
        images
            False leaves the images out, when only files or figures are wanted.
        partial_fourier
            What becomes of the part of k-space that partial Fourier or an asymmetric echo left out: ``"zero-fill"``, or
            ``"pocs"`` to complete it from its mirror image and the phase of the centre.
        virtual_coils
            Most virtual coils to compress the coils to, 0 for no such limit.
        coil_energy
            Part of the signal energy that the virtual coils have to keep, above 0 and at most 1; 0 for no such aim. With
            both, the fewer coils of the two.
        stack
            Name of the stack that the result, its files and figures are to be about; empty for all.
        complex_images
            True for images with their phase, in `Result.complex_images` and in the output files. Models that make magnitudes,
            such as ``rss``, refuse.
        uncertainty
            True for the standard deviation of the error of every pixel, in `Result.uncertainty` and in the output files. Models
            that do not predict it refuse.
        timeout
            Seconds for everything, None for no end.
        on_progress
            Called with `Progress`, also from another thread while the upload runs.

        Raises
        ------
        InputError
            Fix the data or the options.
        RetryLaterError
            The service is full, away, or too slow for the timeout.
        ServiceError
            The service or this client is at fault: ask the administrator.
        """
        upload = upload_of(source, kspace, mask, reference)
        options = Options(
            model=model,
            model_version=model_version,
            undersample=undersample,
            outputs=names_of(outputs, "outputs"),
            heads=names_of(heads, "heads"),
            attention=attention,
            priority=priority,
            images=images,
            partial_fourier=partial_fourier,
            virtual_coils=virtual_coils,
            coil_energy=coil_energy,
            stack=stack,
            complex_images=complex_images,
            uncertainty=uncertainty,
        )
        first = file_request(options, upload)
        reporter = ProgressReporter(on_progress, upload.size)
        schedule = Schedule(self._retry, timeout, self._clock)
        while True:
            with self._connection.reconstruct(
                first, upload.chunks(), timeout=schedule.remaining(), images=images, reporter=reporter
            ) as stream:
                try:
                    return stream.result()
                except RecondError as error:
                    delay = schedule.delay_after(error, repeatable=not stream.delivered)
                    if delay is None:
                        raise
            self._sleep(delay)

    def stream(
        self,
        header_xml: str | bytes,
        batches: Iterable[AcquisitionBatch],
        *,
        model: str = "auto",
        model_version: str = "",
        undersample: str | None = None,
        outputs: Sequence[str] = (),
        heads: Sequence[str] = (),
        attention: bool = False,
        priority: Priority = "clinical",
        images: bool = True,
        partial_fourier: PartialFourier = "zero-fill",
        virtual_coils: int = 0,
        coil_energy: float = 0.0,
        stack: str = "",
        complex_images: bool = False,
        uncertainty: bool = False,
        expected_bytes: int = 0,
        keep_images: bool = True,
        timeout: float | None = None,
        on_progress: ProgressCallback | None = None,
    ) -> ImageStream:
        """Reconstruct a scan while it is measured.

        The batches are taken by another thread, as fast as the service accepts them; none is taken before the request is
        admitted, so after a `RetryLaterError` at that point the same iterable can be used again. Never repeated by itself.

        Parameters
        ----------
        header_xml
            The ISMRMRD XML header.
        batches
            Acquisitions in the order in which they are measured; may wait for the scanner. `batches_of` makes them from
            `ismrmrd.Acquisition` objects.
        expected_bytes
            Bytes of samples in all, 0 if that is not known.
        keep_images
            False where the images are used as they come: the result is without them, and memory stays flat however many there are.
        model, model_version, undersample, outputs, heads, attention, priority, images, timeout, on_progress
            As for `reconstruct`.

        Returns
        -------
        The images as they come, and the result at the end. Errors are raised while iterating, as in `reconstruct`; what
        `batches` raises is raised there too.
        """
        options = Options(
            model=model,
            model_version=model_version,
            undersample=undersample,
            outputs=names_of(outputs, "outputs"),
            heads=names_of(heads, "heads"),
            attention=attention,
            priority=priority,
            images=images,
            partial_fourier=partial_fourier,
            virtual_coils=virtual_coils,
            coil_energy=coil_energy,
            stack=stack,
            complex_images=complex_images,
            uncertainty=uncertainty,
        )
        return self._connection.reconstruct(
            stream_request(options, expected_bytes),
            stream_data(header_xml, batches),
            timeout=check_timeout(timeout),
            images=images,
            reporter=ProgressReporter(on_progress, expected_bytes),
            keep_images=keep_images,
        )

    def analyze(
        self,
        images: Images,
        *,
        heads: Sequence[str],
        outputs: Sequence[str] = (),
        attention: bool = False,
        spacing: Sequence[float] | None = None,
        priority: Priority = "clinical",
        timeout: float | None = None,
    ) -> Analysis:
        """Run heads on images that were reconstructed elsewhere.

        Failed attempts are repeated as the `RetryPolicy` allows, unless something was delivered already.

        Parameters
        ----------
        images
            A NIfTI, MRD or HDF5 file; or DICOM files of one series, as a list or a folder. Paths, bytes or seekable file objects.
        heads
            Names of the heads, or ``NAME@VERSION``.
        outputs
            Endings of files to encode: ``.nii.gz`` (a label map for each head), ``.h5``, ``.png``.
        attention
            True for the attention maps of heads that classify, in `HeadResult.attention` and in ``.nii.gz`` and ``.h5``.
        spacing
            Distances of slices, rows and columns in mm, for images that do not tell them.
        priority
            ``"stat"``, ``"clinical"`` or ``"research"``.
        timeout
            Seconds for everything, None for no end.

        Raises
        ------
        InputError
            Fix the images or the options; or no head is made for these images.
        RetryLaterError
            The service is full, away, or too slow for the timeout.
        ServiceError
            The service or this client is at fault: ask the administrator.
        """
        upload = analysis_upload(images)
        first = analysis_request(
            upload, names_of(heads, "heads"), names_of(outputs, "outputs"), priority, spacing, attention=attention
        )
        schedule = Schedule(self._retry, timeout, self._clock)
        while True:
            call = self._connection.analyze(first, upload.requests(), schedule.remaining())
            try:
                return call.result()
            except RecondError as error:
                delay = schedule.delay_after(error, repeatable=not call.delivered)
                if delay is None:
                    raise
            self._sleep(delay)

    def compare(
        self,
        visits: Sequence[Visit],
        *,
        heads: Sequence[str] = (),
        patient: str = "",
        clinical_rows: Source | None = None,
        priority: Priority = "clinical",
        timeout: float | None = None,
    ) -> Comparison:
        """Compare the scans of a patient: lesions and structures of each with those of the scan before.

        Failed attempts are repeated as the `RetryPolicy` allows, unless something was delivered already.

        Parameters
        ----------
        visits
            One or more, in any order where all have a date, else in the order of time. A single one has nothing to be compared
            with: its changes are null.
        heads
            Heads to run on visits that bring no label map of that head, for example ``["lesion", "tissue"]``.
        patient
            Pseudonym.
        clinical_rows
            A table (CSV) with patient, date, therapy, medication and so on.
        priority
            ``"stat"``, ``"clinical"`` or ``"research"``.
        timeout
            Seconds for everything, None for no end.

        Raises
        ------
        InputError
            Fix the images, the label maps, the table or the options.
        RetryLaterError
            The service is full, away, or too slow for the timeout.
        ServiceError
            The service or this client is at fault: ask the administrator.
        """
        first, upload = compare_request(visits, names_of(heads, "heads"), patient, clinical_rows, priority)
        schedule = Schedule(self._retry, timeout, self._clock)
        while True:
            call = self._connection.compare(first, upload.compare_requests(), schedule.remaining())
            try:
                return call.comparison()
            except RecondError as error:
                delay = schedule.delay_after(error, repeatable=not call.delivered)
                if delay is None:
                    raise
            self._sleep(delay)

    def heads(self, *, timeout: float | None = 30.0) -> list[Model]:
        """Return the heads of the service, in the order of their names."""
        return self._repeated(self._connection.heads, timeout)

    def models(self, *, timeout: float | None = 30.0) -> list[Model]:
        """Return the models of the service, in the order of their names."""
        return self._repeated(self._connection.models, timeout)

    def model(self, name: str, version: str = "", *, timeout: float | None = 30.0) -> Model:
        """Return one model.

        Raises
        ------
        InputError
            If there is none of that name and version.
        """
        return self._repeated(lambda left: self._connection.model(name, version, left), timeout)

    def model_history(self, name: str, *, timeout: float | None = 30.0) -> ModelHistory:
        """Return all versions of a model, how they came to be and how they did since the service was started.

        Raises
        ------
        InputError
            If there is no model of that name.
        """
        return self._repeated(lambda left: self._connection.model_history(name, left), timeout)

    def health(self, service: str = "", *, timeout: float | None = 10.0) -> str:
        """Return ``"SERVING"`` or ``"NOT_SERVING"``.

        Parameters
        ----------
        service
            What to ask about; empty for the service as a whole.
        timeout
            Seconds, None for no end.

        Raises
        ------
        InputError
            If the service knows nothing of that name.
        """
        return self._connection.health(service, check_timeout(timeout))

    def wait_until_ready(self, timeout: float = 60.0) -> None:
        """Wait until the service is up and has a worker.

        Parameters
        ----------
        timeout
            Longest wait, seconds.

        Raises
        ------
        RetryLaterError
            If it is not ready in time.
        ServiceError
            If it does not let this client in.
        """
        check_timeout(timeout)
        end = self._clock.now() + timeout
        while (left := end - self._clock.now()) > 0:
            try:
                if self.health(timeout=left) == "SERVING":
                    return
            except RetryLaterError:
                pass
            self._sleep(min(0.1, left))
        msg = f"the service at {self._connection.target} is not ready after {timeout:g} s"
        raise RetryLaterError(msg, status="UNAVAILABLE", reason="NOT_READY")

    def _repeated(self, ask: Callable[[float | None], Answer], timeout: float | None) -> Answer:
        schedule = Schedule(self._retry, timeout, self._clock)
        while True:
            try:
                return ask(schedule.remaining())
            except RecondError as error:
                delay = schedule.delay_after(error, repeatable=True)
                if delay is None:
                    raise
            self._sleep(delay)
