"""DICOM cine and video as MP4 files that every later stage can open.

`find_cines` copies every multi-frame DICOM file below a folder to H.264 with its own times. The copies carry nothing of
the header. Needs pydicom; JPEG lossless needs python-gdcm beside it (`pip install "medscope[dicom]"`).
"""

import hashlib
import hmac
import os
import secrets
from pathlib import Path
from typing import Any

from tqdm import tqdm

from medscope.sources.cine import write_cine
from medscope.sources.folder import DICOM_SUFFIXES, find_files, named
from medscope.sources.manifest import Found

KEY_FILE = "patient_key"


def is_dicom(path: Path) -> bool:
    """By suffix, or for a file without one by the letters DICM after its preamble."""
    if path.suffix.lower() in DICOM_SUFFIXES:
        return True
    if path.suffix.lstrip(".").isalpha() or path.name == "DICOMDIR" or not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def find_cines(folder: str | Path, copies: str | Path, group_from: str = "patient") -> list[Found]:
    """Copy the cines below `folder` that `copies` lacks, and name them by path. Stills and bad files are problems.

    `group_from` is `patient` (a keyed hash of PatientID; the key stays in `copies`) or what `folder.grouping` takes. A
    copy is made anew when its DICOM file is younger. Raises ImportError with the fix when pydicom is missing.
    """
    _pydicom()
    folder, copies = Path(folder).absolute(), Path(copies).absolute()
    if copies.is_relative_to(folder):
        raise ValueError(f"the copies would go to {copies}, inside {folder}; name a folder outside of it")
    paths = find_files(folder, is_dicom)
    found = named(folder, paths, "video" if group_from == "patient" else group_from)
    key = _key(copies) if group_from == "patient" else b""
    bar = tqdm(zip(paths, found, strict=True), desc="copy DICOM", total=len(paths), unit="file", disable=not paths)
    return [file if file.problem else _copied(path, file, copies, key) for path, file in bar]


def _copied(path: Path, file: Found, copies: Path, key: bytes) -> Found:
    copy = copies / f"{file.video}.mp4"
    try:
        header = _pydicom().dcmread(path, stop_before_pixels=True)
        if not copy.exists() or copy.stat().st_mtime < path.stat().st_mtime:
            copy.parent.mkdir(parents=True, exist_ok=True)
            part = copy.with_suffix(".part.mp4")
            try:
                write_cine(path, part)
                part.replace(copy)
            finally:
                part.unlink(missing_ok=True)
    except Exception as error:  # pydicom and its plugins raise whatever their parsers meet in a damaged file
        return Found(file.video, str(path), problem=f"{path}: {_first_line(error)}")
    group = _patient(str(header.get("PatientID") or ""), key) if key else file.group
    return Found(file.video, str(copy), group or file.video)


def _key(copies: Path) -> bytes:
    """The secret of this folder of copies: without it nobody can try numbers of patients against the groups."""
    path = copies / KEY_FILE
    if not path.exists():
        copies.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_hex(32))
    return path.read_text().encode()


def _patient(number: str, key: bytes) -> str:
    """The group of a patient; "" where the file names none."""
    return (
        f"patient_{hmac.new(key, number.strip().encode(), hashlib.sha256).hexdigest()[:16]}" if number.strip() else ""
    )


def _pydicom() -> Any:
    try:
        import pydicom
    except ImportError as error:
        raise ImportError('DICOM files need pydicom: pip install "medscope[dicom]"') from error
    return pydicom


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]
