"""The data files of a job that trains: found, split, and made into what the loop draws from."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from engine.data.cache import BlockCache
from engine.data.cut import Cut, Losses
from engine.data.exclusion import without
from engine.data.heldout import held_out_corpus
from engine.data.mixture import Mixture, Rows, Share
from engine.data.source import RowFile, SourceRow, Sources, read_source, scan
from engine.data.supply import WINDOW_BLOCKS, FileSupply, Recipe
from engine.errors import DataError
from engine.journal import Journal
from engine.parts import FileShare, MixedTrainingSpec
from engine.rundir import RunDirectory

_SAMPLE_BLOCKS = 64
"""16 MB of text: more changes nothing in a tokenizer that is trained on it."""


class Part(NamedTuple):
    """A file of a mixture and its weight."""

    name: str
    file: RowFile
    weight: float


@dataclass(frozen=True)
class TrainingFiles:
    """Files whose rows are known by number; none is read into memory but the held-out rows."""

    run: RunDirectory
    seed: int
    parts: tuple[Part, ...]
    annealing: tuple[Part, ...]
    validation: list[SourceRow]
    by_split: bool

    @classmethod
    def find(
        cls, run: RunDirectory, spec: MixedTrainingSpec, validation_file: str | None, journal: Journal
    ) -> "TrainingFiles":
        """The files of `data/`; without one to validate on, a part of each is held out where the spec says auto."""
        given = run.data("validation")
        by_split = given is None and validation_file == "auto"
        split_seed = spec.seed if by_split else None

        def part(name: str, share: FileShare) -> Part:
            file = scan(run.required_data(name), spec.PURPOSE, split_seed=split_seed)
            if share.file == spec.training_file:
                file = without(file, spec.exclude_rows, journal)
            return Part(share.file, file, share.weight)

        parts = tuple(part(f"train-{number}", share) for number, share in enumerate(spec.mixture))
        if spec.training_file is not None:
            parts = (part("train", FileShare(file=spec.training_file)),)
        annealing = tuple(part(f"annealing-{number}", share) for number, share in enumerate(spec.annealing))
        if given is not None:
            return cls(run, spec.seed, parts, annealing, read_source(given, spec.PURPOSE), by_split)
        # A file that is in both phases holds out the same rows in both.
        once = {made.name: made for made in (*parts, *annealing)}
        held_out = [row for made in once.values() for row in made.file.held_out_rows()]
        return cls(run, spec.seed, parts, annealing, held_out, by_split)

    def sample(self) -> Iterator[SourceRow]:
        """Training rows from all over the files, enough to train a tokenizer on."""
        for part in self.parts:
            blocks, most = part.file.blocks, max(1, _SAMPLE_BLOCKS // len(self.parts))
            for block in blocks[:: -(-len(blocks) // most)]:
                yield from part.file.training_rows(block)

    def rows(self, recipe: Recipe, journal: Journal) -> Rows:
        """What the loop trains on and what it is scored on.

        Raises:
            NoTrainedToken: there is nothing to learn in a file.
        """
        cache = BlockCache.of_run(self.run)
        shares = tuple(self._share(part, recipe, cache, journal) for part in self.parts)
        annealing = tuple(self._share(part, recipe, cache, journal) for part in self.annealing)
        sources = Sources([], self.validation, self.by_split)
        return Rows(
            train=Mixture(shares, annealing),
            validation=held_out_corpus(sources, lambda rows: _whole(recipe, rows, journal).corpus, journal),
        )

    def _share(self, part: Part, recipe: Recipe, cache: BlockCache, journal: Journal) -> Share:
        # Memory is for one window in all, however many files there are.
        window_blocks = max(1, WINDOW_BLOCKS // (len(self.parts) + len(self.annealing)))
        supply = FileSupply(part.file, recipe, cache, seed=self.seed, window_blocks=window_blocks)
        one_of_many = _of_several((*self.parts, *self.annealing))
        try:
            first = supply.cut(0, 0)
            recipe.require(first, supply.row_count())
        except DataError as error:
            raise error.about(part.name) if one_of_many else error from None
        name, file = "training" if supply.windows == 1 else "of the first training", part.name if one_of_many else None
        first.report(journal, name, recipe.max_length, file)
        return Share(part.name, supply, part.weight)


def tell_losses(rows: Rows, journal: Journal) -> None:
    """Have a large file's supply tell what all of its rows lost; `journal` is to be open as long as rows are drawn."""
    if not isinstance(rows.train, Mixture):
        return
    shares = (*rows.train.shares, *rows.train.annealing)
    for share in shares:
        if isinstance(supply := share.supply, FileSupply) and supply.windows > 1:
            place = (supply.recipe.max_length, share.name if _of_several(shares) else None)
            supply.when_all_seen = partial(_tell, journal, *place)


def _tell(journal: Journal, max_length: int, file: str | None, lost: Losses) -> None:
    lost.report(journal, "training", max_length, file)


def _of_several(given: Sequence[Part | Share]) -> bool:
    return len({each.name for each in given}) > 1


def _whole(recipe: Recipe, rows: list[SourceRow], journal: Journal) -> Cut:
    made = recipe.cut(recipe.encode(rows), [row.follows for row in rows], [row.ends for row in rows])
    recipe.require(made, len(rows))
    made.report(journal, "validation", recipe.max_length)
    return made
