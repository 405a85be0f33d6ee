"""`chiaroscuro train`: images to a network in a folder."""

from pathlib import Path
from typing import Annotated

import typer

from chiaroscuro.catalog import ARCHITECTURES
from chiaroscuro.cli import options

_NAMES = ", ".join((*ARCHITECTURES, "timm:NAME, torchvision:NAME"))


def train(
    data: options.DataOption,
    out: Annotated[Path, typer.Option(help="The folder that the network is written to.")],
    architecture: Annotated[str, typer.Option(help=f"One of {_NAMES}.")] = "basic-cnn",
    data_root: options.DataRoot = None,
    split: Annotated[str | None, typer.Option(help="Images to learn from. Default: train.")] = None,
    test_split: Annotated[
        str | None,
        typer.Option(help="Images to test on after each epoch. Default: the data set's own."),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Learn from so many images, drawn with the seed.")
    ] = None,
    epochs: Annotated[int, typer.Option(min=1)] = 50,
    batch: Annotated[int, typer.Option(min=1, help="Images per step.")] = 128,
    learning_rate: Annotated[float, typer.Option(help="AdamW's step size.")] = 0.001,
    weight_decay: Annotated[float, typer.Option(help="AdamW's weight decay.")] = 0.01,
    seed: Annotated[int, typer.Option(help="Decides weights and order of images.")] = 42,
    size: Annotated[
        int | None,
        typer.Option(min=2, help="Side that images are stretched to. Default: the network's own."),
    ] = None,
    pretrained: Annotated[
        bool, typer.Option("--pretrained", help="Start with the library's weights.")
    ] = False,
    freeze: Annotated[
        bool, typer.Option("--freeze", help="Only the new last layer learns.")
    ] = False,
    cache_features: Annotated[
        bool,
        typer.Option("--cache-features", help="Ask the frozen body once per image, in eval mode."),
    ] = False,
    normalize: Annotated[
        bool,
        typer.Option("--normalize", help="Use the body's own mean and std. The paper does not."),
    ] = False,
    rgb_only: options.RgbOnly = False,
    precision: Annotated[str, typer.Option(help="32, or mixed: bf16, 16.")] = "32",
    device: options.Device = "cpu",
    threads: options.Threads = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an interrupted training.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing network.")] = False,
    quiet: options.Quiet = False,
) -> None:
    """Train a network with the paper's settings: AdamW, no augmentation, the last epoch kept."""
    from chiaroscuro.cli import train_run
    from chiaroscuro.training import TrainingSettings

    settings = TrainingSettings(
        architecture=architecture,
        data=data,
        split=split,
        test_split=test_split,
        epochs=epochs,
        batch=batch,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        seed=seed,
        size=size,  # type: ignore[arg-type]  # one side is read as two
        pretrained=pretrained,
        freeze=freeze,
        cache_features=cache_features,
        normalize=normalize,
        rgb_only=rgb_only,
        limit=limit,
        precision=precision,
    )
    train_run.run(
        settings, out, data_root, device, threads, resume=resume, overwrite=force, quiet=quiet
    )  # fmt: skip
