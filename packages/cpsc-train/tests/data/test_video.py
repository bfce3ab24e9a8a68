"""Frames and sound of videos are what FFmpeg shows: turned, at their time, in their colours, each stream by itself."""

from __future__ import annotations

import shutil
import subprocess
import time

import numpy as np
import pytest

from cpsc_train.data import DataConfig, preparation
from cpsc_train.data.families.clips import Clip, ClipConfig, Clips
from cpsc_train.data.faults import Faults
from cpsc_train.data.media import container, video
from cpsc_train.data.media.container import open_container
from cpsc_train.data.media.sound import read_sound
from cpsc_train.data.media.video import Video, every
from cpsc_train.errors import UserError

CORNERS = {(-1, -1): (255, 0, 0), (1, -1): (0, 255, 0), (-1, 1): (0, 0, 255), (1, 1): (255, 255, 255)}
"""By the sign of x and of y, which points down."""
TURNS = [(1, 0, 0, 1), (0, 1, -1, 0), (-1, 0, 0, -1), (0, -1, 1, 0), (-1, 0, 0, 1), (1, 0, 0, -1), (0, 1, 1, 0)]
TURNS += [(0, -1, -1, 0)]


def quarters(colours, height, width):
    frame = np.zeros((height, width, 3), np.uint8)
    for (x, y), colour in colours.items():
        rows = slice(height // 2, None) if y > 0 else slice(None, height // 2)
        frame[rows, slice(width // 2, None) if x > 0 else slice(None, width // 2)] = colour
    return frame


def numbers(path, fps=10.0):
    """Return the numbers of the frames that are shown."""
    return [round(float(np.asarray(image).mean()) / 4) for image in Video(path, fps).at(every)]


@pytest.mark.parametrize("turn", TURNS)
def test_frames_are_turned_as_the_display_matrix_says(recordings, tmp_path, turn):
    path = recordings.record(tmp_path / "a.mp4", [quarters(CORNERS, 32, 48)])
    recordings.turn(path, *turn)
    a, b, c, d = turn
    there = {(a * x + c * y, b * x + d * y): colour for (x, y), colour in CORNERS.items()}
    (image,) = Video(path, 1.0).at(every)
    shown = np.asarray(image).astype(int)
    expected = quarters(there, *((32, 48) if a else (48, 32)))
    assert shown.shape == expected.shape
    np.testing.assert_allclose(shown[4:-4:8, 4:-4:8], expected[4:-4:8, 4:-4:8], atol=4)


def test_an_angle_that_is_no_quarter_is_refused(recordings, tmp_path):
    path = recordings.turn(recordings.record(tmp_path / "a.mp4", recordings.greys(2)), 1, 1, -1, 1)
    with pytest.raises(UserError, match=r"a\.mp4: is rotated by an angle that is not a multiple of 90°"):
        Video(path, 1.0).at(every)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.mp4", {}),
        ("a.mp4", {"container": {"movflags": "frag_keyframe+empty_moov"}}),
        ("a.mkv", {}),
        ("a.flv", {"form": "yuv420p"}),
        ("a.avi", {}),
    ],
    ids=["mp4", "fragments", "mkv", "flv", "avi"],
)
def test_each_time_shows_its_frame(recordings, tmp_path, name, options):
    """With frames of the kind B, FLV, AVI and fragments keep times of decoding, by which a jump may miss."""
    path = recordings.record(tmp_path / name, recordings.greys(40), between=2, **options)
    assert numbers(path) == list(range(40))
    for wanted in ([31], [3, 39, 20, 10, 9, 29], [0, 1, 38]):
        shades = [float(np.asarray(image).mean()) / 4 for image in Video(path, 10.0).at(lambda _, k=wanted: k)]
        np.testing.assert_allclose(shades, wanted, atol=0.3)


def test_all_frames_are_one_pass_and_few_are_a_jump(recordings, tmp_path, monkeypatch):
    path = recordings.record(tmp_path / "a.mp4", recordings.greys(60), gop=20, between=2)
    seen = []
    decoded = video._Player._decoded

    def counted(player):
        for one in decoded(player):
            seen.append(one)
            yield one

    monkeypatch.setattr(video._Player, "_decoded", counted)
    assert numbers(path) == list(range(60))
    assert len(seen) <= 60
    seen.clear()
    Video(path, 10.0).at(lambda _: [1, 41])
    assert len(seen) <= 2 * 3


def test_a_picture_may_be_shorter_than_its_sound_and_the_reverse(recordings, tmp_path):
    for name in ("a.mp4", "a.mkv"):
        path = recordings.record(tmp_path / name, recordings.greys(40), seconds=5.0)
        assert numbers(path) == list(range(40))
        samples, rate = read_sound(path)
        assert len(samples) / rate == pytest.approx(5.0, abs=0.05)
        path = recordings.record(tmp_path / f"b{name}", recordings.greys(40), seconds=2.0)
        assert numbers(path) == list(range(40))
        assert len(read_sound(path)[0]) / rate == pytest.approx(2.0, abs=0.05)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_what_begins_late_is_placed_by_its_time(recordings, tmp_path, name):
    path = recordings.record(tmp_path / name, recordings.greys(20), seconds=4.0, starts=(2.0, 0.0))
    assert numbers(path) == [0] * 20 + list(range(20))  # FFmpeg shows the first frame until then
    assert len(read_sound(path)[0]) / recordings.RATE == pytest.approx(4.0, abs=0.05)
    path = recordings.record(tmp_path / name, recordings.greys(40), seconds=2.0, starts=(0.0, 2.0))
    assert numbers(path) == list(range(40))
    samples, rate = read_sound(path)
    assert len(samples) / rate == pytest.approx(4.0, abs=0.05)
    assert not samples[: round(1.9 * rate)].any()
    assert samples[round(2.5 * rate) : 3 * rate].std() == pytest.approx(0.5 / np.sqrt(2), rel=0.1)
    shade = recordings.record(tmp_path / name, recordings.greys(20), seconds=2.0, starts=(0.2, 0.0))
    assert numbers(shade) == list(range(20))  # which is how much encoders delay


def test_frames_before_the_first_that_is_shown_are_left_out(recordings, tmp_path):
    """A copy without encoding begins with them, since a decoder needs them."""
    path = recordings.record(tmp_path / "a.mp4", recordings.greys(40), starts=(-0.6, 0.0), gop=50)
    assert numbers(path) == list(range(6, 40))
    assert numbers(path, fps=1.0) == [11, 21, 31]


def test_what_counts_is_cut_out_by_seconds_of_the_recording(recordings, tmp_path):
    """Of 4 s, 1 to 3 are the same frames and sound however long the other stream is."""
    config = ClipConfig(root=str(tmp_path), fps=10.0, frames=2, size=4, seconds=2.0, spectrogram="model")
    of = {}
    for k, (count, seconds) in enumerate(((40, 4.0), (32, 4.0), (40, 3.2))):
        path = recordings.record(tmp_path / f"{k}.mp4", recordings.greys(count), seconds=seconds)
        clip = Clip("a", 0, "", path, Video(path, 10.0), 1.0, 3.0, 4.0)
        clips = Clips(config, [clip], ["x"], Faults())
        shades = clips.read("video", np.array([0]))[0, :, 0, 0, 0] / 4
        np.testing.assert_allclose(shades, [15, 25], atol=0.3)
        of[k] = clips.read("audio", np.array([0]))[0]
    np.testing.assert_array_equal(of[0], of[1])
    np.testing.assert_allclose(of[0][:-2000], of[2][:-2000], atol=1e-3)
    late = Clips(config, [Clip("a", 0, "", path, Video(path, 10.0), 3.5, 4.0, 4.0)], ["x"], Faults())
    with pytest.raises(UserError, match=r"2\.mp4: has 3\.2 s of sound, but the sample begins at 3\.5 s"):
        late.read("audio", np.array([0]))


def test_an_event_is_the_same_in_what_was_taken_out(recordings, tmp_path):
    """Images have no times: those of a picture that ends early are as many as those of a whole one."""
    for part, name in (("trainSet", "a"), ("valSet", "b"), ("testSet", "c")):
        path = tmp_path / "AVE" / f"{name}.mp4"
        path.parent.mkdir(exist_ok=True)
        recordings.record(path, recordings.greys(16), fps=2, seconds=10.0)
        (tmp_path / f"{part}.txt").write_text(f"Bark&{name}&good&4&8\n")
    config = DataConfig.named("ave")
    preparation.extract(config(root=str(tmp_path)), tmp_path / "out")
    assert len(list((tmp_path / "out/frames/a").iterdir())) == 10
    shown = [
        config(root=str(root), size=4).open().read("video", np.array([0])) for root in (tmp_path, tmp_path / "out")
    ]
    np.testing.assert_allclose(shown[0][0, :, 0, 0, 0] / 4, [9, 11, 13, 15], atol=0.5)
    np.testing.assert_allclose(shown[1], shown[0], atol=3)  # JPEG


WEIGHTS = {1: (0.2126, 0.0722), 5: (0.299, 0.114)}
"""By number of the matrix, the weight of red and of blue in the luminance: BT.709 and BT.601."""


@pytest.mark.parametrize("matrix", WEIGHTS)
@pytest.mark.parametrize("full", [False, True])
def test_colours_follow_matrix_and_range(recordings, tmp_path, matrix, full):
    def prepare(context):
        context.colorspace, context.color_range = matrix, 2 if full else 1

    form = "yuvj444p" if full else "yuv444p"
    frame = np.full((32, 32, 3), (200, 80, 40), np.uint8)
    path = recordings.record(tmp_path / "a.mp4", [frame], form=form, prepare=prepare)
    with open_container(path) as file:
        y, u, v = next(file.decode(video=0)).to_ndarray()[:, 16, 16].astype(float)
    red, blue = WEIGHTS[matrix]
    luminance = y / 255 if full else (y - 16) / 219
    cb, cr = ((value - 128) / (255 if full else 224) for value in (u, v))
    r, b = luminance + 2 * (1 - red) * cr, luminance + 2 * (1 - blue) * cb
    expected = 255 * np.array([r, (luminance - red * r - blue * b) / (1 - red - blue), b])
    (image,) = Video(path, 1.0).at(every)
    np.testing.assert_allclose(np.asarray(image)[16, 16], expected, atol=2)


def test_fields_of_an_interlaced_frame_stay_together(recordings, tmp_path):
    import av  # noqa: PLC0415  # an extra

    def prepare(context):
        context.flags |= av.codec.context.Flags.interlaced_dct | av.codec.context.Flags.interlaced_me

    rows = np.random.default_rng(0).integers(0, 256, (32, 1, 3), dtype=np.uint8).repeat(32, 1)
    path = recordings.record(tmp_path / "a.mp4", [rows], form="yuv420p", prepare=prepare)
    with open_container(path) as file:
        frame = next(file.decode(video=0))
        assert frame.interlaced_frame
        expected = av.VideoFrame.from_ndarray(frame.to_ndarray(), format="yuv420p").to_image()  # which is not
    (image,) = Video(path, 1.0).at(every)
    np.testing.assert_array_equal(np.asarray(image), np.asarray(expected))


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm", ".avi", ".mov", ".m4a", ".flv"])
@pytest.mark.parametrize(
    "text",
    [
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n",
        "ffconcat version 1.0\nfile other.mp4\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nother.mp4\n",
    ],
    ids=["sdp", "ffconcat", "hls"],
)
def test_a_text_that_names_other_files_is_not_followed(recordings, tmp_path, suffix, text):
    recordings.record(tmp_path / "other.mp4", recordings.greys(2))
    path = tmp_path / f"a{suffix}"
    path.write_text(text)
    before = time.monotonic()
    for read in (Video(path, 1.0).at, read_sound):
        with pytest.raises(UserError, match=rf"a\{suffix}: is not a readable video: must be .* and does not begin as"):
            read(every) if read is not read_sound else read(path)
    assert time.monotonic() - before < 5


def test_only_the_format_that_the_suffix_names_is_tried(recordings, tmp_path, monkeypatch):
    path = recordings.record(tmp_path / "a.mkv", recordings.greys(2)).rename(tmp_path / "a.mp4")
    with pytest.raises(UserError, match=r"a\.mp4: .*must be MP4 by its name, and is Matroska: name it accordingly"):
        Video(path, 1.0).at(every)
    monkeypatch.setattr(container, "container_of", lambda content: "MP4")
    monkeypatch.setattr(container, "refuse_truncated", lambda held, path: None)
    with pytest.raises(UserError, match=r"a\.mp4: is not a readable video"):
        Video(path, 1.0).at(every)


@pytest.mark.parametrize(
    ("module", "limit", "value", "told"),
    [
        (container, "MOST_STREAMS", 1, "has 2 streams, and may have 1"),
        (container, "MOST_PACKETS", 20, "has more than 20 packets"),
        (container, "LONGEST", 1.5, r"lasts 2 s by its own times"),
        (video, "MOST_PIXELS", 100, "has frames of 32 × 32 pixels"),
        (video, "MOST_SHOWN", 10 * 32 * 32, "20 frames of 32 × 32 pixels are too many at once: lower data.fps"),
    ],
)
def test_what_a_recording_claims_is_bounded(recordings, tmp_path, monkeypatch, module, limit, value, told):
    path = recordings.record(tmp_path / "a.mp4", recordings.greys(20), seconds=2.0)
    monkeypatch.setattr(module, limit, value)
    with pytest.raises(UserError, match=rf"a\.mp4: {told}"):
        Video(path, 10.0).at(every)


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="FFmpeg's own program is not there to compare with")
@pytest.mark.parametrize("turn", TURNS[1:4])
def test_frames_are_those_of_ffmpeg(recordings, tmp_path, turn):
    path = recordings.record(tmp_path / "a.mp4", recordings.greys(20), seconds=3.0, starts=(1.0, 0.0), between=2)
    recordings.turn(path, *turn)
    command = ["ffmpeg", "-v", "error", "-i", str(path), "-r", "10", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    done = subprocess.run(command, capture_output=True, check=True)
    shown = np.stack([np.asarray(image) for image in Video(path, 10.0).at(every)])
    np.testing.assert_allclose(shown, np.frombuffer(done.stdout, np.uint8).reshape(shown.shape), atol=1)
