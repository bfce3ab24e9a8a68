"""A file that is cut off is refused in every container, or read as far as it goes where it states no length."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest

from cpsc_train.data.media.sound import read_sound
from cpsc_train.data.media.truncation import container_of, refuse_truncated
from cpsc_train.data.media.video import Video, every
from cpsc_train.errors import DataError, UserError

SAMPLES = (0.5 * np.sin(np.arange(40_000) / 9)).astype(np.float32)
FRAGMENTS = {"movflags": "frag_keyframe+empty_moov"}
SOUNDS = {
    "riff.wav": ("WAV", "PCM_16", None),
    "rifx.wav": ("WAV", "PCM_16", "BIG"),
    "rf64.wav": ("RF64", "PCM_16", None),
    "wavex.wav": ("WAVEX", "PCM_16", None),
    "adpcm.wav": ("WAV", "MS_ADPCM", None),
    "a.w64": ("W64", "PCM_16", None),
    "a.aiff": ("AIFF", "PCM_16", None),
    "a.au": ("AU", "PCM_16", None),
    "a.caf": ("CAF", "PCM_16", None),
    "a.flac": ("FLAC", "PCM_16", None),
    "a.ogg": ("OGG", "VORBIS", None),
    "a.opus": ("OGG", "OPUS", None),
    "a.mp3": ("MP3", "MPEG_LAYER_III", None),
}
VIDEOS = {
    "a.mp4": {},
    "first.mp4": {"movflags": "faststart"},
    "fragments.mp4": FRAGMENTS,
    "a.mkv": {},
    "live.mkv": {"live": "1"},
    "a.avi": {},
    "a.flv": {},
}
BY_SAMPLE = {"riff.wav", "rifx.wav", "rf64.wav", "wavex.wav", "a.w64", "a.aiff", "a.au", "a.caf"}


@pytest.fixture(scope="module")
def whole(recordings, tmp_path_factory):
    """By name, what a file holds that is not cut."""
    import soundfile  # noqa: PLC0415  # an extra

    root = tmp_path_factory.mktemp("whole")
    for name, (form, subtype, order) in SOUNDS.items():
        soundfile.write(root / name, SAMPLES, 8000, format=form, subtype=subtype, endian=order)
    for name, options in VIDEOS.items():
        form = "yuv420p" if name.endswith("flv") else "yuv444p"
        recordings.record(root / name, recordings.greys(20), seconds=2.0, form=form, container=options)
    return {file.name: file.read_bytes() for file in root.iterdir()}


@pytest.mark.parametrize("name", SOUNDS)
def test_sound_that_is_cut_is_refused(whole, tmp_path, name):
    held, path = whole[name], tmp_path / name
    path.write_bytes(held)
    assert len(read_sound(path)[0]) == pytest.approx(len(SAMPLES), abs=0 if name != "adpcm.wav" else 500)
    for kept in (len(held) - 5, len(held) * 9 // 10, len(held) // 2):
        path.write_bytes(held[:kept])
        with pytest.raises(UserError, match=rf"{name}: is (cut off|not a readable sound file)"):
            read_sound(path)


@pytest.mark.parametrize("name", sorted(BY_SAMPLE))
def test_one_byte_less_is_read_as_ffmpeg_does(whole, tmp_path, name):
    (tmp_path / name).write_bytes(whole[name][:-1])
    assert len(read_sound(tmp_path / name)[0]) == len(SAMPLES) - 1


@pytest.mark.parametrize("name", VIDEOS)
def test_a_video_that_is_cut_is_refused(whole, tmp_path, name):
    held, path = whole[name], tmp_path / name
    path.write_bytes(held)
    assert len(Video(path, 10.0).at(every)) == 20
    assert len(read_sound(path)[0]) / 48_000 == pytest.approx(2.0, abs=0.05)
    for kept in (len(held) - 5, len(held) * 9 // 10, len(held) // 2, len(held) // 3):
        path.write_bytes(held[:kept])
        for read in (Video(path, 10.0).at, read_sound):
            with pytest.raises(UserError, match=rf"{name}: is (cut off|not a readable video)"):
                read(path) if read is read_sound else read(every)


@pytest.mark.parametrize("name", sorted(VIDEOS.keys() - {"live.mkv"}))
@pytest.mark.parametrize(
    "more", [bytes(100), b"\xff" * 100, b"and some text that a download left here"], ids=["0", "1", "text"]
)
def test_what_follows_a_whole_video_does_no_harm(whole, tmp_path, name, more):
    (tmp_path / name).write_bytes(whole[name] + more)
    assert len(Video(tmp_path / name, 10.0).at(every)) == 20


def test_a_fragment_without_its_samples(whole, tmp_path):
    held = whole["fragments.mp4"]
    place = held.rindex(b"mdat") - 4
    (tmp_path / "a.mp4").write_bytes(held[:place])
    with pytest.raises(UserError, match=r"a\.mp4: is cut off"):
        Video(tmp_path / "a.mp4", 10.0).at(every)


def test_a_length_that_is_stated_and_not_there(recordings, tmp_path):
    """Cut between two parts, so that all parts are whole."""
    held = recordings.record(tmp_path / "a.flv", recordings.greys(40), gop=5, form="yuv420p").read_bytes()
    place, ends = 13, []
    while place < len(held):
        place += 15 + int.from_bytes(held[place + 1 : place + 4], "big")
        ends.append(place)
    (tmp_path / "a.flv").write_bytes(held[: ends[len(ends) // 2]])
    with pytest.raises(UserError, match=r"a\.flv: is cut off: [12]\.\d of 4\.\d s are there"):
        Video(tmp_path / "a.flv", 10.0).at(every)


@pytest.mark.parametrize("size", [0, 2**31 - 1, 2**32 - 1])
def test_a_stream_that_states_no_length_is_read(whole, tmp_path, size):
    held = bytearray(whole["riff.wav"])
    place = held.index(b"data")
    held[place + 4 : place + 8] = struct.pack("<I", size)
    (tmp_path / "a.wav").write_bytes(bytes(held))
    if size:
        assert len(read_sound(tmp_path / "a.wav")[0]) == len(SAMPLES)
    assert container_of(bytes(held)) == "WAV"


def test_mp3_without_a_count_is_whole_where_its_last_frame_is(tmp_path):
    import av  # noqa: PLC0415  # an extra

    path = tmp_path / "a.mp3"
    with av.open(str(path), "w", container_options={"write_xing": "0"}) as file:
        stream = file.add_stream("libmp3lame", rate=44_100, layout="mono")
        for place in range(0, 40_000, 1152):
            frame = av.AudioFrame.from_ndarray(SAMPLES[None, place : place + 1152], format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 44_100, place
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    held = path.read_bytes()
    assert len(read_sound(path)[0]) == pytest.approx(len(SAMPLES), abs=3 * 1152)
    path.write_bytes(held[:-7])
    with pytest.raises(UserError, match=r"a\.mp3: is cut off"):
        read_sound(path)
    path.write_bytes(held + b"TAG" + bytes(125))  # a title at the end is no frame
    read_sound(path)


def test_mp3_of_which_the_library_would_read_a_part(whole, tmp_path):
    held = whole["a.mp3"]
    place = max(held[:200].find(b"Xing"), held[:200].find(b"Info"))
    (tmp_path / "a.mp3").write_bytes(held.replace(held[place : place + 4], b"    ", 1))
    with pytest.raises(UserError, match=r"a\.mp3: libsndfile reads 1\d,\d{3} of 4\d,\d{3} samples, since no header"):
        read_sound(tmp_path / "a.mp3")


@pytest.mark.parametrize(("name", "box", "place"), [("a.mp4", b"stsz", 12), ("fragments.mp4", b"trun", 8)])
def test_tables_that_state_more_samples_than_there_are_bytes(whole, tmp_path, name, box, place):
    held = bytearray(whole[name])
    at = held.index(box) + place
    held[at : at + 4] = struct.pack(">I", 2**30)
    (tmp_path / name).write_bytes(bytes(held))
    for read in (Video(tmp_path / name, 10.0).at, read_sound):
        with pytest.raises(UserError, match=rf"{name}: states 1,073,741,824 samples and has"):
            read(tmp_path / name) if read is read_sound else read(every)


def test_other_formats_of_sound_are_refused(tmp_path):
    import soundfile  # noqa: PLC0415  # an extra

    held = io.BytesIO()
    soundfile.write(held, SAMPLES, 8000, format="NIST", subtype="PCM_16")
    (tmp_path / "a.wav").write_bytes(held.getvalue())
    with pytest.raises(UserError, match=r"a\.wav: is not a readable sound file \(format NIST\)"):
        read_sound(tmp_path / "a.wav")


def test_an_aiff_file_that_states_more_samples_than_it_holds():
    held = bytearray(b"FORM\0\0\0\0AIFF" + b"COMM\0\0\0\x12" + b"\0\1\0\0\0\x0a\0\x10" + bytes(10))
    held += b"SSND" + (8 + 20).to_bytes(4, "big") + bytes(8 + 20)
    refuse_truncated(bytes(held), Path("a.aiff"))
    held[22:26] = (20).to_bytes(4, "big")
    with pytest.raises(DataError, match=r"a\.aiff: is cut off \(bytes that are missing: 20\)"):
        refuse_truncated(bytes(held), Path("a.aiff"))
