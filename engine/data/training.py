"""The data files of a job that trains: found, split, and turned into the documents that the loop draws."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from engine.data.cache import BlockCache
from engine.data.corpus import Corpus
from engine.data.cut import Losses
from engine.data.exclusion import without
from engine.data.heldout import held_out_corpus
from engine.data.mixture import Mixture, Share
from engine.data.rows import Rows
from engine.data.source import RowFile, SourceRow, Sources, read_source, scan
from engine.data.supply import WINDOW_BLOCKS, FileSupply, Recipe, naming, seen_in
from engine.journal import Journal
from engine.parts import FileShare, MixedTrainingSpec
from engine.rundir import RunDirectory

_SAMPLE_BLOCKS = 64
"""16 MB of text: more does not change a tokenizer that is trained on it."""


class MixtureFile(NamedTuple):
    """A file of a mixture and its weight."""

    name: str
    file: RowFile
    weight: float


class ValidationRows(NamedTuple):
    """The rows of one file that the job is scored on; `file` is its name, None where the job has no other file."""

    file: str | None
    rows: list[SourceRow]


@dataclass(frozen=True)
class TrainingFiles:
    """Files whose rows are known by number; only the held-out rows are read into memory."""

    run: RunDirectory
    seed: int
    files: tuple[MixtureFile, ...]
    annealing: tuple[MixtureFile, ...]
    validation: tuple[ValidationRows, ...]
    by_split: bool

    @classmethod
    def find(
        cls, run: RunDirectory, spec: MixedTrainingSpec, validation_file: str | None, journal: Journal
    ) -> "TrainingFiles":
        """Scan the files of `data/`; without a validation file, hold out a part of each where the spec says auto."""
        given = run.data("validation")
        by_split = given is None and validation_file == "auto"
        split_seed = spec.seed if by_split else None

        def found(name: str, share: FileShare) -> MixtureFile:
            file = scan(run.required_data(name), spec.PURPOSE, split_seed=split_seed)
            if share.file == spec.training_file:
                file = without(file, spec.exclude_rows, journal)
            return MixtureFile(share.file, file, share.weight)

        files = tuple(found(f"train-{number}", share) for number, share in enumerate(spec.mixture))
        if spec.training_file is not None:
            files = (found("train", FileShare(file=spec.training_file)),)
        annealing = tuple(found(f"annealing-{number}", share) for number, share in enumerate(spec.annealing))
        if given is not None:
            validation = [ValidationRows(validation_file, read_source(given, spec.PURPOSE))]
        else:
            # A file that is in both phases holds out the same rows in both.
            once = {each.name: each.file for each in (*files, *annealing)}
            validation = [
                ValidationRows(name if len(once) > 1 else None, file.held_out_rows()) for name, file in once.items()
            ]
        return cls(run, spec.seed, files, annealing, tuple(validation), by_split)

    def sample(self) -> Iterator[SourceRow]:
        """Yield training rows from all over the files, enough to train a tokenizer on."""
        for each in self.files:
            blocks, most = each.file.blocks, max(1, _SAMPLE_BLOCKS // len(self.files))
            for block in blocks[:: -(-len(blocks) // most)]:
                yield from each.file.training_rows(block)

    def rows(self, recipe: Recipe, journal: Journal) -> Rows:
        """Return the documents that the loop trains on and those that it is scored on.

        Raises:
            NoTrainedToken: a file has nothing to train on.
        """
        cache = BlockCache.of_run(self.run)
        cache.files.journal = journal
        shares = tuple(self._share(each, recipe, cache, journal) for each in self.files)
        annealing = tuple(self._share(each, recipe, cache, journal) for each in self.annealing)
        cache.files.journal = None  # it may be closed by the time that the next rows are drawn
        return Rows(train=Mixture(shares, annealing), validation=self._held_out(recipe, journal))

    def _share(self, each: MixtureFile, recipe: Recipe, cache: BlockCache, journal: Journal) -> Share:
        # The memory of one window is divided among all files.
        window_blocks = max(1, WINDOW_BLOCKS // (len(self.files) + len(self.annealing)))
        file = each.name if _several((*self.files, *self.annealing)) else None
        supply = FileSupply(each.file, recipe, cache, seed=self.seed, window_blocks=window_blocks, name=file)
        first = supply.cut(0, 0)
        with naming(file):
            recipe.require(first, supply.row_count())
        first.report(journal, "training" if supply.windows == 1 else "of the first training", recipe.max_length, file)
        return Share(each.name, supply, each.weight)

    def _held_out(self, recipe: Recipe, journal: Journal) -> Corpus | None:
        corpora: list[Corpus] = []
        for file, rows in self.validation:
            with naming(file):
                made = held_out_corpus(
                    Sources([], rows, self.by_split), partial(_whole, recipe, journal, file), journal, file
                )
            corpora += [] if made is None else [made]
        return Corpus.join(corpora) if corpora else None


def report_cut_rows(rows: Rows, journal: Journal) -> None:
    """Have the supplies log what all rows of a large file lose, and a full cache, while `rows` are drawn.

    `journal` stays open for that long.
    """
    if not isinstance(rows.train, Mixture):
        return
    shares = (*rows.train.shares, *rows.train.annealing)
    for share in shares:
        if isinstance(supply := share.supply, FileSupply):
            supply.cache.files.journal = journal
            if supply.windows > 1:
                supply.when_all_seen = partial(_report, journal, supply.recipe.max_length, supply.name)


def _report(journal: Journal, max_length: int, file: str | None, lost: Losses) -> None:
    lost.report(journal, "training", max_length, file)


def _several(files: Sequence[MixtureFile]) -> bool:
    """Whether there is more than one file, and lines have to be named with theirs."""
    return len({each.name for each in files}) > 1


def _whole(recipe: Recipe, journal: Journal, file: str | None, rows: list[SourceRow]) -> Corpus:
    made = seen_in(rows, recipe).cut
    made.report(journal, "validation", recipe.max_length, file)
    return made.corpus
