"""Where the numbers, pictures and sounds of a run are shown beside its folder: wandb and TensorBoard."""

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from data_util import config as configuration
from data_util.audio import load_sound
from data_util.config import Config, ConfigError


class Wandb:
    """A run in wandb, under a step of its own: wandb's can only rise, and a run may go back."""

    def __init__(self, run, audio, image):
        """run: of wandb.init; audio, image: its classes of media."""
        self.run, self.audio, self.image = run, audio, image
        run.define_metric("*", step_metric="step")

    @classmethod
    def start(cls, config: Config, name: str | None) -> "Wandb":
        """The same one again when a run is resumed. name: its id, if it has one already. Raises ConfigError."""
        try:
            import wandb  # here, so that nothing else needs it
        except ImportError as error:
            raise ConfigError(
                "wandb is not installed: pip install -r requirements.txt, or train with -test true"
            ) from error
        try:
            run = wandb.init(project=config.system.wandb_project, name=name, id=name and name.replace("/", "-"),
                             resume="allow", config=configuration.to_dict(config))  # fmt: skip
        except wandb.errors.Error as error:
            raise ConfigError(f"wandb: {error}. Log in with `wandb login`, or train without it: -test true") from error
        return cls(run, wandb.Audio, wandb.Image)

    def open(self, folder: Path, step: int) -> None:
        """Of the run in folder what comes after a step is told next; later steps that were told of come again."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Numbers by name."""
        self.run.log({"step": step, **values})

    def log_samples(self, step: int, folder: Path) -> None:
        """The WAVs and PNGs that a validation left in a folder."""
        media = {path: self.audio if path.suffix == ".wav" else self.image for path in samples(folder)}
        self.run.log({"step": step, **{f"samples/{path.stem}": kind(str(path)) for path, kind in media.items()}})


class TensorBoard:
    """Events in the run's folder: tensorboard --logdir checkpoint."""

    def __init__(self) -> None:
        """Raises ConfigError."""
        try:
            from torch.utils.tensorboard import SummaryWriter  # here, so that nothing else needs it
        except ImportError as error:
            raise ConfigError(
                f"{error}: pip install -r requirements-extra.txt, or train with system.tensorboard=false"
            ) from error
        self.new_writer: Callable[..., Any] = SummaryWriter
        self.writer: Any = None

    def open(self, folder: Path, step: int) -> None:
        """As of Wandb, as are log and log_samples."""
        if self.writer is not None:
            self.writer.close()
        self.writer = self.new_writer(folder / "tensorboard", purge_step=step + 1)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)
        self.writer.flush()  # a line of the log is on disk at once, too

    def log_samples(self, step: int, folder: Path) -> None:
        from matplotlib.image import imread  # here, as where the pictures are drawn

        for path in samples(folder):
            if path.suffix == ".wav":
                sound = load_sound(path)
                self.writer.add_audio(f"samples/{path.stem}", sound.wav, step, sound.sample_rate)
            else:
                self.writer.add_image(f"samples/{path.stem}", imread(path), step, dataformats="HWC")
        self.writer.flush()


Tracker = Wandb | TensorBoard  # what a run's first process tells of it


def samples(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*") if path.suffix in (".wav", ".png"))


def start_trackers(args: argparse.Namespace, config: Config) -> list[Tracker]:
    """Those that train.py's args and the configuration ask for. Raises ConfigError where one cannot be had."""
    trackers: list[Tracker] = [TensorBoard()] if config.system.tensorboard else []
    return trackers + ([Wandb.start(config, args.id or args.name)] if args.test == "false" else [])


def name_of(trackers: list[Tracker]) -> str | None:
    """What wandb calls a run that has no name of its own."""
    return next((tracker.run.id for tracker in trackers if isinstance(tracker, Wandb)), None)
