"""The pictures of a run: whole PNGs, whatever the clip and the log."""

import numpy as np
import pytest
from matplotlib import image

from training.plots import PANELS, panels_of, save_curves, save_validation, shown


def size_of(path):
    """The size of a PNG that can be read and is no blank page."""
    pixels = image.imread(path)
    assert len(np.unique(pixels)) > 50
    return pixels.shape[1::-1]


def picture(path, lengths, durations, symbols):
    random = np.random.default_rng(0)
    mels = {f"clip_{i}: one_step": random.normal(-5, 2, (80, n)).astype(np.float32) for i, n in enumerate(lengths)}
    save_validation(path, mels, np.array(durations), symbols, 256 / 22050)
    return path


@pytest.mark.parametrize(
    ("lengths", "durations", "symbols"),
    [((2, 1, 3), [1, 1], ["_", "a"]), ((120, 118, 125), [3, 0, 17, 40, 60], ["_", "ˈ", "ɜ", "\u0303", "$"])],
)
def test_a_validation_is_a_whole_png(tmp_path, lengths, durations, symbols):
    path = picture(tmp_path / "samples" / "00000010" / "clip.png", lengths, durations, symbols)
    width, height = size_of(path)
    assert width >= 600 and height >= 120 * (len(lengths) + 1)
    assert [one.name for one in path.parent.iterdir()] == ["clip.png"]


def test_silence_without_an_alignment_is_a_picture_too(tmp_path):
    mels = {"silence": np.full((80, 20), np.log(1e-5), dtype=np.float32)}
    save_validation(tmp_path / "clip.png", mels, None, ["_"], 256 / 22050)
    assert size_of(tmp_path / "clip.png")


def test_other_durations_are_another_picture(tmp_path):
    one, same, other = (
        picture(tmp_path / f"{i}.png", (20,), durations, ["a", "b"]).read_bytes()
        for i, durations in enumerate(([5, 15], [5, 15], [10, 10]))
    )
    assert one == same != other


def test_the_curves_have_a_panel_for_each_kind_of_value(tmp_path):
    log = [{"step": step, "kind": "train", "loss_mel": 1 / step, "loss_score": 1.0} for step in (2, 4)]
    log += [{"step": 4, "kind": "valid", "mcd": 5.0}, {"step": 3, "kind": "skipped", "clips": ["tiny-0"]}]
    save_curves(tmp_path / "few.png", log)
    save_curves(tmp_path / "many.png", [*log, {"step": 4, "kind": "valid", "cer": 0.1, "copy_mel_l1": 3.0}])
    (width, height), (wider, higher) = (size_of(tmp_path / f"{name}.png") for name in ("few", "many"))
    assert wider == width and higher == 2 * height  # three panels; four, three a row


def test_a_log_without_a_value_has_no_picture(tmp_path):
    for lines in ([], [{"step": 5, "kind": "valid"}], [{"step": 5, "kind": "skipped", "clips": ["tiny-0"]}]):
        save_curves(tmp_path / "curves.png", lines)
    assert not list(tmp_path.iterdir())


def test_every_value_has_one_panel_also_that_of_a_loss_of_ones_own():
    losses = {"loss_prior": 1.0, "vocoder: loss_mel": 1.0, "latent_l1": 1.0, "cer": 0.5}
    losses |= {"score_ratio_1": 1.0, "duration_ratio": 1.0, "norm_decoder": 1.0, "loss_mine": 1.0}
    titles = {panel.title: names for panel, names in panels_of([{"step": 1, "kind": "train", **losses}]).items()}
    assert titles == {
        "prior": ["loss_prior"],
        "score network": ["score_ratio_1"],
        "spectra": ["latent_l1", "vocoder: loss_mel"],
        "gradient norms": ["norm_decoder"],
        "errors of speech": ["cer"],
        "speech by its recording": ["duration_ratio"],
        "other values": ["loss_mine"],
    }
    assert len(PANELS) <= 12


def test_the_first_steps_and_what_is_not_finite_do_not_set_the_axis():
    points = [(10, 90.0), (20, 3.0), (600, 2.0), (800, float("nan")), (1000, 1.0)]
    assert shown(points) == [2.0, 1.0] and shown(points[:1]) == [90.0] and shown([(1, float("inf"))]) == [0.0]
    assert shown([(1000, 3.9), (2000, 4.2), (3000, 4.3)]) == [3.9, 4.2, 4.3]  # the first of few is seldom far off
