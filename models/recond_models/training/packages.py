"""Fetch the packages that hold the heads, with the package managers they belong to. `make training-data` runs this."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import click

from recond_models.training.collection import prepare_collected
from recond_models.training.prepare import prepare, sources
from recond_models.training.volumes import COLLECTED, Source, Volume, is_saved

_SPM_PREFIX = "fsroot/_spm/cleaned/spm/tpm/TPM.nii"
_BRAINBROWSER = "brainbrowser@2.3.0"


class FetchError(RuntimeError):
    """A package could not be fetched."""


def fetch(folder: Path) -> list[str]:
    """Fetch and unpack all packages, each into a folder of its own; those that are there stay.

    Parameters
    ----------
    folder
        Where to.

    Returns
    -------
    list of str
        What could not be had, and why; one sentence each.
    """
    folder.mkdir(parents=True, exist_ok=True)
    problems = []
    for name, get in _PACKAGES.items():
        place = folder / name
        if place.is_dir():
            continue
        unfinished = folder / f"{name}.part"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir()
        try:
            get(unfinished)
        except (FetchError, OSError, subprocess.CalledProcessError, tarfile.TarError, zipfile.BadZipFile) as error:
            shutil.rmtree(unfinished, ignore_errors=True)
            problems.append(f"{name}: {error}")
            continue
        unfinished.rename(place)
    return problems


def _debian(package: str) -> Callable[[Path], None]:
    """Return how to fetch and unpack a Debian package; nothing is installed."""

    def get(place: Path) -> None:
        _run(place, "apt-get", "download", package)
        for archive in place.glob("*.deb"):
            _run(place, "dpkg-deb", "-x", archive.name, ".")
            archive.unlink()

    return get


def _npm(place: Path) -> None:
    """Fetch brainbrowser and unpack its example volumes."""
    _run(place, "npm", "pack", "--silent", _BRAINBROWSER)
    for archive in place.glob("*.tgz"):
        with tarfile.open(archive) as package:
            wanted = [member for member in package.getmembers() if "examples/models/structural" in member.name]
            package.extractall(place, members=wanted, filter="data")
        archive.unlink()


def _spm(place: Path) -> None:
    """Fetch spm-runtime and unpack its tissue priors; the archive inside the wheel is a ZIP."""
    subprocess.run(
        [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "spm-runtime"],
        cwd=place,
        check=True,
    )
    for archive in place.glob("*.whl"):
        with zipfile.ZipFile(archive) as wheel:
            inner = next((name for name in wheel.namelist() if name.endswith("_spm.ctf")), None)
            if inner is None:
                raise FetchError(f"{archive.name} holds no _spm.ctf: pip download spm-runtime==25.1.2.post4")
            with wheel.open(inner) as stream, zipfile.ZipFile(stream) as files:
                files.extract(_SPM_PREFIX, place)
        archive.unlink()


def _run(place: Path, program: str, *arguments: str) -> None:
    """Run a package manager in a folder; raise FetchError if it is not there."""
    path = shutil.which(program)
    if path is None:
        raise FetchError(f"{program} is not on this machine")
    subprocess.run([path, *arguments], cwd=place, check=True)


_PACKAGES: dict[str, Callable[[Path], None]] = {
    "mricron-data": _debian("mricron-data"),
    "insighttoolkit5-examples": _debian("insighttoolkit5-examples"),
    "spm": _spm,
    "brainbrowser": _npm,
}


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--again", is_flag=True, help="Convert volumes that are there already.")
@click.option(
    "--collection",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    envvar="RECOND_TRAINING_COLLECTION",
    help="Folder of collected `images` and `labels`, which are converted as well.  [env: RECOND_TRAINING_COLLECTION]",
)
def main(folder: Path, again: bool, collection: Path | None) -> None:
    """Fetch the heads that training data are simulated from and convert them into FOLDER."""
    unpacked = folder / "packages"
    for problem in fetch(unpacked):
        click.echo(f"not fetched: {problem}", err=True)
    recipes: list[tuple[Source, Callable[[], Volume]]] = [
        (source, partial(prepare, source, unpacked)) for source in sources()
    ]
    if collection is not None:
        recipes += [(source, partial(prepare_collected, source, collection)) for source in COLLECTED]
    failed = []
    for source, convert in recipes:
        if is_saved(folder, source) and not again:
            continue
        try:
            volume = convert()
        except FileNotFoundError as error:
            failed.append(source.name)
            click.echo(f"{source.name}: {error}", err=True)
            continue
        volume.save(folder)
        click.echo(f"{source.name}: {source.split}, {' x '.join(map(str, volume.shape))} voxels")
    if failed:
        raise click.ClickException(f"{len(failed)} of {len(recipes)} volumes are missing: {', '.join(failed)}")


if __name__ == "__main__":
    main()
