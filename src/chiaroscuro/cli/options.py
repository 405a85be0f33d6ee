"""The options that two commands or more take with one meaning, each with its words for `--help`.

A command writes its own default, and beside these the options that only it has.
"""

from pathlib import Path
from typing import Annotated

import typer

from chiaroscuro.choices import BASELINES, FITS, METHODS, RANKING_MAPS, RIVAL_WORDS, SCORES

# Words and limits of what one command types otherwise, or gives another place on the line.
DATA = "A folder, a Parquet file, cifar10, imagenette, or OWNER/NAME."
LIMIT = typer.Option(min=1, help="So many images, drawn with the seed.")
RIVALS = (
    f"Competing classes: {RIVAL_WORDS}; or classes by index or name (3,cat), or weights "
    "(3=0.7,cat=0.3). Separate with ; where names have commas."
)

# Which network, which images
Model = Annotated[
    str, typer.Option(help="What `chiaroscuro models` lists, such as torchvision:resnet18.")
]
DataArgument = Annotated[str, typer.Argument(help=DATA)]
DataOption = Annotated[str, typer.Option(help=DATA)]
DataRoot = Annotated[
    Path | None, typer.Option(help="A folder with a data set's folder, in place of its name.")
]
Split = Annotated[str | None, typer.Option(help="Default: test, then validation, then train.")]
Limit = Annotated[int | None, LIMIT]
RgbOnly = Annotated[bool, typer.Option("--rgb-only", help="Leave files out that are not RGB.")]
Fit = Annotated[
    str | None,
    typer.Option(
        help=f"How a photo is brought to the model's size: {', '.join(FITS)}. "
        "Default: the model's own."
    ),
]

# What is asked of it
RankingMaps = Annotated[
    list[str] | None,
    typer.Option("--map", help=f"{', '.join(RANKING_MAPS)}; repeatable. Default: all."),
]
Target = Annotated[
    str, typer.Option(help="The class to explain: predicted, an index, or any of its names.")
]
PhotoRivals = Annotated[str, typer.Option(help=RIVALS)]
SetRivals = PhotoRivals
Score = Annotated[str, typer.Option(help=f"What is differentiated: {', '.join(SCORES)}.")]
Method = Annotated[str, typer.Option(help=f"How class gradients are made: {', '.join(METHODS)}.")]
Points = Annotated[
    int | None, typer.Option(help="Places where a method asks the gradient. Default: its own.")
]
Sigma = Annotated[
    float | None, typer.Option(help="smoothgrad's noise, in units of pixel value: 0.15.")
]
Baseline = Annotated[
    str | None, typer.Option(help=f"Where integrated-gradients begins: {', '.join(BASELINES)}.")
]
Background = Annotated[
    str | None, typer.Option(help="Photos that expected-gradients begins from: a folder or glob.")
]

# Where it is computed
Batch = Annotated[int | None, typer.Option(min=1, help="Images at a time. Default: by their size.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:N, mps.")]
Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads. Default: PyTorch's own.")]

# What is written and printed
Out = Annotated[Path, typer.Option(help="Where the results go.")]
RunFolder = Annotated[Path, typer.Option(help="The folder for rows, figures and page.")]
Force = Annotated[bool, typer.Option("--force", help="Replace an existing result.")]
SummaryAsJson = Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")]
