"""What tests ask of runs, and how they break them; the fixtures to go with it are in run_fixtures.py."""

import torch

import train
from model.nisets import NiSETS
from training import checkpoint
from training.distributed import Processes
from training.run_log import read_lines

ALONE = Processes(0, 1, torch.device("cpu"))
# text encoder and score network alone, as small as can be: where it is all the same what is learnt
QUICK = ["decoder.kind=convnext1d", "decoder.channels=8", "decoder.hidden_channels=8", "decoder.n_layers=1",
         "text_encoder.n_layers=1", "text_encoder.prenet_layers=1", "training.batch_size=2",
         "training.stages=[{parts: {text_encoder: 1.e-3, decoder: 1.e-3}, final: 0.1}]"]  # fmt: skip


def only(folder):
    (entry,) = list(folder.iterdir())
    return entry


def lines(run, kind=None):
    """The lines of a run's log, all or those of a kind."""
    return [line for line in read_lines(run / "log.jsonl") if kind in (None, line["kind"])]


def steps(run):
    """The steps that a run has a checkpoint of."""
    return checkpoint.steps(run, "project")


def load(run, step=None):
    """A run's checkpoint, the newest or that of a step."""
    return checkpoint.load_checkpoint(checkpoint.find(run, "project", step))


def said(capsys):
    """The last line on standard error."""
    return capsys.readouterr().err.strip().splitlines()[-1]


def differences(a, b, place=""):
    """The places at which two trees of plain values and tensors are not equal to the bit."""
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return [] if torch.equal(a, b) else [place]
    if isinstance(a, dict) and isinstance(b, dict) and a.keys() == b.keys():
        return [one for key in a for one in differences(a[key], b[key], f"{place}/{key}")]
    if isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        return [one for i, pair in enumerate(zip(a, b)) for one in differences(*pair, f"{place}/{i}")]
    return [] if type(a) is type(b) and not isinstance(a, (dict, list)) and a == b else [place or "/"]


def stirred(config, n_symbols, std, log_duration=None):
    """A model in which nothing is at zero that starts there. log_duration: about what a symbol lasts, ln frames."""
    torch.manual_seed(0)
    model = NiSETS(config, n_symbols)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(std * torch.randn(parameter.shape))
        if log_duration is not None:
            model.text_encoder.duration.out.weight.mul_(0.3)
            model.text_encoder.duration.out.bias.fill_(log_duration)
    return model


def copied(tree):
    return {name: value.detach().clone() for name, value in tree.items()}


def moved(before, after):
    """The parts of a model, by the first words of their weights' names, of which something is not as before."""
    return {name.split(".")[0] for name, value in after.items() if not torch.equal(value, before[name])}


def spy(patch, owner, name, before=lambda *_: None):
    """Call `before`, with the same arguments, before each call of owner's function. patch: a MonkeyPatch."""
    function = getattr(owner, name)

    def spied(*arguments, **keywords):
        before(*arguments, **keywords)
        return function(*arguments, **keywords)

    patch.setattr(owner, name, spied)


def break_losses(patch, is_broken, name="loss_mel", factor=torch.nan):
    """Multiply a loss by a factor, and so make it not finite, in steps of which is_broken(state) is true."""
    forward = train.forward

    def broken(state, *rest):
        output = forward(state, *rest)
        if is_broken(state):
            output.losses[name] = output.losses[name] * factor
        return output

    patch.setattr(train, "forward", broken)
