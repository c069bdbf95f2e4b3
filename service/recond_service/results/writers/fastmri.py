"""The container that the fastMRI tools read: dataset `reconstruction`, float32 (images, rows, columns)."""

from __future__ import annotations

import json
from typing import BinaryIO

import h5py
import numpy as np

from recond_service.results.head_maps import HeadMaps
from recond_service.results.writers.label_map import ATTENTION_UNIT
from recond_service.series import Series

_COUNTERS = ("encoding", "slice", "contrast", "phase", "repetition", "set")
_INDEX = np.dtype([(name, "<i4") for name in (*_COUNTERS, "stack")])


def write_fastmri(series: Series, file: BinaryIO, heads: HeadMaps) -> None:
    """Write a fastMRI reconstruction file.

    Beside the images there is the dataset `index`, a compound that names encoding, slice, contrast, phase, repetition, set and
    stack of each image; its attribute `stacks` has the names of the stacks. Images with their phase are there once more, as
    `reconstruction_complex`, complex64; `uncertainty`, float32, has the standard deviation of each pixel where that was asked
    for. A head that has labelled all images has a group `heads/NAME` with the datasets `labels`, integers, whose attribute `names`
    is JSON (``{"white matter": 3, ...}``), and `confidence`, uint8 in 1/255. Attention maps are float32 in
    `heads/NAME/attention/GROUP` with the attributes `group`, `unit`, and `classes`: the class that the map of
    each image is about, empty and the map zero where the head did not look at it. No times go in, so that equal images give equal
    bytes.

    Parameters
    ----------
    series
        Images of one size.
    file
        Seekable, open for reading and writing.
    heads
        Label maps and attention maps of the images.
    """
    images = series.images
    index = np.zeros(len(images), _INDEX)
    place = 0
    with h5py.File(file, "w") as handle:
        shape = (len(images), *images[0].pixels.shape)
        dataset = handle.create_dataset("reconstruction", shape=shape, dtype="<f4", track_times=False)
        phased = deviations = None
        if all(image.complex_pixels is not None for image in images):
            phased = handle.create_dataset("reconstruction_complex", shape=shape, dtype="<c8", track_times=False)
        if all(image.uncertainty is not None for image in images):
            deviations = handle.create_dataset("uncertainty", shape=shape, dtype="<f4", track_times=False)
        for number, stack in enumerate(series.stacks):
            for image in stack.images:
                dataset[place] = image.pixels
                if phased is not None:
                    phased[place] = image.complex_pixels
                if deviations is not None:
                    deviations[place] = image.uncertainty
                index[place] = (*(getattr(image.index, name) for name in _COUNTERS), number)
                place += 1
        stored = handle.create_dataset("index", data=index, track_times=False)
        stored.attrs["stacks"] = np.array([stack.name.encode() for stack in series.stacks])
        for head in heads.on("", series):
            group = handle.create_group(f"heads/{head}", track_order=False)
            labels = np.concatenate([heads.of(head, stack) for stack in series.stacks])
            confidence = np.concatenate([heads.confidence(head, stack) for stack in series.stacks])
            stored = group.create_dataset("labels", data=labels, compression="gzip", track_times=False)
            stored.attrs["names"] = json.dumps(
                {each.name: each.value for each in heads.labels(head)}, ensure_ascii=False
            )
            group.create_dataset("confidence", data=confidence, compression="gzip", track_times=False)
        for found in heads.attention_on("", series).values():
            name = f"heads/{found.head}/attention/{found.name}"
            stored = handle.create_dataset(name, shape=shape, dtype="<f4", compression="gzip", track_times=False)
            classes: list[str] = []
            for stack in series.stacks:
                stored[len(classes) : len(classes) + len(stack.images)] = found.of(stack)
                classes += found.classes(stack)
            stored.attrs["classes"] = np.array([name.encode() for name in classes])
            stored.attrs["group"], stored.attrs["unit"] = found.group, ATTENTION_UNIT
