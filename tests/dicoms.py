"""DICOM cines that the tests make themselves: pictures in several transfer syntaxes, and encapsulated video."""

import io
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from media import grey_frames
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

ULTRASOUND_MULTIFRAME = "1.2.840.10008.5.1.4.1.1.3.1"
H264, HEVC, MPEG2 = "1.2.840.10008.1.2.4.102", "1.2.840.10008.1.2.4.107", "1.2.840.10008.1.2.4.100"


def dataset(frames, syntax=ExplicitVRLittleEndian, patient="42", **header):
    """A multi-frame dataset of `frames` uint8 or uint16 [n, h, w(, 3)]; `header` holds further attributes."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = ULTRASOUND_MULTIFRAME, generate_uid()
    meta.TransferSyntaxUID = syntax
    made = FileDataset("cine", {}, file_meta=meta, preamble=b"\0" * 128)
    made.SOPClassUID, made.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    made.PatientName, made.PatientID, made.Modality = "Doe^Jane", patient, "US"
    made.NumberOfFrames, made.Rows, made.Columns = frames.shape[:3]
    colour, bits = frames.ndim == 4, frames.dtype.itemsize * 8
    made.SamplesPerPixel, made.PhotometricInterpretation = (3, "RGB") if colour else (1, "MONOCHROME2")
    if colour:
        made.PlanarConfiguration = 0
    made.BitsAllocated = made.BitsStored = bits
    made.HighBit, made.PixelRepresentation = bits - 1, 0
    made.PixelData = np.ascontiguousarray(frames).tobytes()
    for name, value in header.items():
        setattr(made, name, value)
    return made


def write_pictures(path, frames, **header):
    dataset(frames, **header).save_as(path, enforce_file_format=True)
    return Path(path)


def write_lossless_jpeg(path, frames, **header):
    """JPEG lossless, first-order prediction (the form of most cines that hospitals keep), encoded by GDCM."""
    import gdcm

    plain = write_pictures(Path(path).with_suffix(".plain"), frames, **header)
    reader = gdcm.ImageReader()
    reader.SetFileName(str(plain))
    assert reader.Read()
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGLosslessProcess14_1))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer = gdcm.ImageWriter()
    writer.SetFileName(str(path))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()
    plain.unlink()
    return Path(path)


def write_video(path, syntax, codec, form, count=8, fps=25, fragments=3, **header):
    """`grey_frames` as a stream of `codec` in the container `form`, encapsulated in several fragments."""
    frames, buffer = grey_frames(count), io.BytesIO()
    with av.open(buffer, "w", format=form) as container:
        stream = container.add_stream(codec, rate=fps)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt, stream.bit_rate = "yuv420p", 8_000_000
        for index, picture in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    content = buffer.getvalue()
    cut = -(-len(content) // fragments) // 2 * 2 + 2  # even: only the last fragment may be padded
    parts = [content[start : start + cut] for start in range(0, len(content), cut)]
    made = dataset(frames, syntax, **header)
    made.PhotometricInterpretation = "YBR_PARTIAL_420"
    made.PixelData = encapsulate(parts, has_bot=False)
    made["PixelData"].VR = "OB"
    made.save_as(path, enforce_file_format=True)
    return Path(path)
