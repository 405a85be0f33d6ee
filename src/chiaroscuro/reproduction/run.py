"""The chosen experiments, then one report over everything that lies in the folder."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from chiaroscuro.catalog import versions
from chiaroscuro.choices import check_names
from chiaroscuro.errors import ChiaroscuroError, InputError
from chiaroscuro.reproduction.claims import answer_claims
from chiaroscuro.reproduction.experiments import EXPERIMENTS, Experiment
from chiaroscuro.reproduction.figures import choose_examples, draw_examples, draw_experiment_curves
from chiaroscuro.reproduction.tables import accuracy_table, area_table, matched_table
from chiaroscuro.reproduction.work import ExperimentResult, Extent, OnImages, read, work
from chiaroscuro.results.measurements import Figure, Reproduction, Table
from chiaroscuro.results.store import write
from chiaroscuro.training.run import SILENT, Watcher

_QUICK = Extent(
    epochs=4, images=2000, test_limit=60, train_limit=30, method_limit=20, resamples=200, flips=999
)


@dataclass(frozen=True, slots=True)
class ReproductionSettings:
    """What of the paper is reproduced.

    `experiments`: names of `EXPERIMENTS`, () for all. `quick`: few epochs on few images, as a trial
    run; its numbers mean nothing. `epochs` and `test_limit`: None for the paper's own.
    `train_limit`: training images for their curves, None for all; the paper does not say how many.
    `data_root`: a folder that holds the data sets' folders, None for the hub.
    """

    experiments: tuple[str, ...] = ()
    data_root: Path | None = None
    quick: bool = False
    epochs: int | None = None
    test_limit: int | None = None
    train_limit: int | None = 5000
    seed: int = 0

    def __post_init__(self) -> None:
        chosen = check_names("experiment", self.experiments or tuple(EXPERIMENTS), EXPERIMENTS)
        object.__setattr__(self, "experiments", chosen)  # frozen, and its values in one form

    @property
    def extent(self) -> Extent:
        """How far each experiment goes."""
        if self.quick:
            return _QUICK
        return Extent(self.epochs, None, self.test_limit, self.train_limit)


@dataclass(frozen=True)
class ReproductionWatcher:
    """What is called while the paper is reproduced."""

    training: Watcher = SILENT
    on_experiment: Callable[[Experiment], object] = lambda experiment: None
    on_images: OnImages = lambda what, done, total, before: None
    on_missing: Callable[[Experiment, str], object] = lambda experiment, reason: None


_QUIET = ReproductionWatcher()


def reproduce(
    settings: ReproductionSettings,
    out: str | Path,
    *,
    workers: int = 1,
    device: str = "cpu",
    watcher: ReproductionWatcher = _QUIET,
) -> Reproduction:
    """Train and evaluate the experiments, then write tables, figures and claims over all of them.

    OUT/models holds trained networks and OUT/runs evaluations; both are kept, resumed and reused.
    `paper.md`, `index.html`, `tables/` (CSV, LaTeX) and `figures/` are written from them. An
    experiment that cannot be run (its weights or data cannot be had) is left out, with its reason.

    Raises `InputError` when no experiment could be run, `ChoiceError` for an unknown one.
    Source: arXiv:2309.12913, tables 1 to 3 and figures.
    """
    folder = Path(out)
    reasons: dict[str, str] = {}
    for name in settings.experiments:
        experiment = EXPERIMENTS[name]
        watcher.on_experiment(experiment)
        try:
            work(
                experiment,
                folder,
                settings.extent,
                data_root=settings.data_root,
                seed=settings.seed,
                workers=workers,
                device=device,
                watcher=watcher.training,
                on_images=watcher.on_images,
            )
        except ChiaroscuroError as error:
            reasons[name] = str(error)
            watcher.on_missing(experiment, str(error))
    finished = {name: read(experiment, folder) for name, experiment in EXPERIMENTS.items()}
    results = [result for result in finished.values() if result is not None]
    if not results:
        raise InputError(f"no experiment could be run: {next(iter(reasons.values()))}")
    missing = {
        EXPERIMENTS[name].title: reasons.get(name, "not chosen")
        for name, result in finished.items()
        if result is None
    }
    reproduction = Reproduction(
        facts=tuple(_facts(settings, results)),
        tables=_tables(results, missing),
        answers=tuple(answer_claims(results)),
        figures=tuple(_draw(folder, settings, results)),
        missing=missing,
        versions=versions(),
    )
    write(reproduction, folder)
    return reproduction


def _tables(results: Sequence[ExperimentResult], missing: Mapping[str, str]) -> dict[str, Table]:
    return {
        "accuracy": accuracy_table(results, missing),
        "black": area_table(2, "black", results),
        "white": area_table(3, "white", results),
        "matched-black": matched_table("black", results),
        "matched-white": matched_table("white", results),
    }


def _draw(
    out: Path, settings: ReproductionSettings, results: Sequence[ExperimentResult]
) -> list[Figure]:
    """Every experiment's three figures; the pictures lie in OUT/figures."""
    (out / "figures").mkdir(exist_ok=True)
    figures = []
    for result in results:
        name, title = result.experiment.name, result.experiment.title
        ids = choose_examples(result, out, settings.seed)
        file = f"figures/examples-{name}.png"
        draw_examples(result, ids, settings.data_root, out / file)
        figures.append(
            Figure(
                file,
                f"{title}: one random correctly classified test image per class, drawn once for "
                "all networks of its data set, with the five maps in 'hot' colors.",
            )
        )
        for protocol in ("paper", "matched"):
            file = f"figures/curves-{name}-{protocol}.png"
            draw_experiment_curves(result, protocol, out / file)
            figures.append(
                Figure(
                    file,
                    f"{title}: share of predictions kept, {protocol} protocol, test images above, "
                    "training images below.",
                )
            )
    return figures


def _facts(settings: ReproductionSettings, results: Sequence[ExperimentResult]) -> list[str]:
    """What readers must know before they compare."""
    facts = [
        f"{result.experiment.title}: {result.experiment.note}."
        for result in results
        if result.experiment.note
    ]
    for result in results:
        record, chosen = result.training, result.training.settings
        images = {name: one.data.images for name, one in result.evaluations.items()}
        facts.append(
            f"{result.experiment.title}: {chosen.epochs} epochs, seed {chosen.seed}, batch "
            f"{chosen.batch}, {record.images:,} training images; curves from {images['test']:,} "
            f"test and {images['train']:,} training images (seed {settings.seed})."
        )
    if settings.quick:
        facts.insert(0, "A quick run: few epochs on few images. Its numbers mean nothing.")
    facts.append(", ".join(f"{name} {version}" for name, version in versions().items()) + ".")
    return facts
