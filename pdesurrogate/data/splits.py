"""Which trajectories train, validate and test: by number, by parameter, never by window.

A trajectory belongs to one split or to none. `Partition` cannot hold one twice, and every reader makes its
splits through it, so that windows of a test trajectory cannot be trained on.
"""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pdesurrogate.registry import check_options, did_you_mean

from .array_trajectories import content_digest
from .trajectories import SPLITS, DataSet, Trajectories
from .views import Subset

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Partition:
    """Trajectories of each split, by number.

    Attributes:
        splits: the numbers of each split, ``"train"``, ``"valid"`` and ``"test"``.
        total: how many trajectories there are.
        rule: how they were chosen, in words.

    Raises:
        ValueError: if a trajectory is in two splits, twice in one, or outside the data.
    """

    splits: Mapping[str, tuple[int, ...]]
    total: int
    rule: str

    def __post_init__(self) -> None:
        owners: dict[int, str] = {}
        for split, numbers in self.splits.items():
            if split not in SPLITS:
                raise ValueError(f"there is no split {split!r}; allowed: {', '.join(SPLITS)}.")
            for number in numbers:
                if not 0 <= number < self.total:
                    raise ValueError(
                        f"{split} asks for trajectory {number}; there are {self.total}, from 0 on."
                    )
                if number in owners:
                    raise ValueError(
                        f"trajectory {number} is in {owners[number]} and in {split}; splits must not share "
                        "trajectories."
                    )
                owners[number] = split

    def divide(self, name: str, whole: Trajectories, provenance: Mapping[str, Any] | None = None) -> DataSet:
        """Return the data set of these splits; those without trajectories are left out."""
        splits = {split: Subset(whole, numbers) for split, numbers in self.splits.items() if len(numbers)}
        sizes = {split: len(numbers) for split, numbers in self.splits.items() if len(numbers)}
        return DataSet(name, splits, {**(provenance or {}), "split": self.rule, "trajectories": sizes})


def first_and_last(total: int, train: int, valid: int, test: int, owner: str = "the data set") -> Partition:
    """The first trajectories train, those after them validate, the last ones test."""
    if train < 1 or valid < 0 or test < 0:
        raise ValueError(f"train={train}, valid={valid}, test={test}: needed are train >= 1, others >= 0.")
    if train + valid + test > total:
        raise ValueError(
            f"{owner} holds {total} trajectories; train={train}, valid={valid} and test={test} need "
            f"{train + valid + test}. Splits must not share trajectories; lower one of them."
        )
    ranges = {
        "train": range(train),
        "valid": range(train, train + valid),
        "test": range(total - test, total),
    }
    return Partition({k: tuple(r) for k, r in ranges.items()}, total, f"first {train}, last {test}")


def by_trajectory(
    total: int,
    train: float | int = 0.8,
    valid: float | int = 0.1,
    test: float | int = 0.1,
    seed: int | None = None,
) -> Partition:
    """Shares or numbers of trajectories: in the file's order, or shuffled once where a seed is given.

    Args:
        total: how many trajectories there are.
        train: number (1, 2, ...) or share (below 1) of trajectories; a share gives at least one.
        valid: the same of those that validate.
        test: the same of those that test.
        seed: of the shuffling; None keeps the order, test at the end.
    """
    counts = {}
    for split, wanted in (("train", train), ("valid", valid), ("test", test)):
        if not math.isfinite(wanted) or wanted < 0 or (wanted >= 1 and wanted != int(wanted)):
            raise ValueError(
                f"{split} is {wanted}; give a number of trajectories, or a share between 0 and 1."
            )
        counts[split] = (
            int(wanted) if wanted >= 1 else max(math.floor(wanted * total + 1e-9), int(wanted > 0))
        )
    if total < 3 and max(train, valid, test) < 1:  # too few for a share each
        counts = {"train": 1, "valid": 0, "test": total - 1}
        log.warning("there are %d trajectories: one trains, %d tests, none validates.", total, total - 1)
    elif train < 1 and sum(counts.values()) > total:
        counts["train"] = max(1, total - counts["valid"] - counts["test"])
    plain = first_and_last(total, counts["train"], counts["valid"], counts["test"])
    if seed is None:
        return plain
    order = np.random.default_rng(seed).permutation(total)
    splits = {split: tuple(sorted(int(order[i]) for i in numbers)) for split, numbers in plain.splits.items()}
    return Partition(splits, total, f"shuffled with seed {seed}")


def by_parameter(
    values: Mapping[str, np.ndarray],
    parameter: str,
    held_out: Sequence[float] | None = None,
    above: float | None = None,
    below: float | None = None,
    distribution: str = "out",
    valid: float = 0.1,
    test: float = 0.1,
    seed: int = 0,
) -> Partition:
    """Trajectories of some parameter values are never trained on; the others train, validate and test.

    ``distribution="out"`` tests on the held-out values, ``"in"`` on held-out trajectories of the values that are
    trained on. Both have the same training and validation trajectories, so that one model is tested on both, and
    every trained value appears in training, validation and in-distribution test as far as it has trajectories.

    Args:
        values: every parameter of each trajectory.
        parameter: which of them decides.
        held_out: values that are out of distribution.
        above: limit above which a value is out of distribution.
        below: limit below which a value is out of distribution.
        distribution: ``"out"`` or ``"in"``.
        valid: share of each trained value's trajectories that validates.
        test: share of each trained value's trajectories that tests in distribution.
        seed: of the choice among them.

    Source: the in- and out-of-distribution splits of RealPDEBench (2026).
    """
    if parameter not in values:
        raise ValueError(
            f"there is no parameter {parameter!r}.{did_you_mean(parameter, values)} The data have: "
            f"{', '.join(values) or 'none'}."
        )
    if distribution not in ("in", "out"):
        raise ValueError(f"distribution is {distribution!r}; allowed: 'in', 'out'.")
    if held_out is None and above is None and below is None:
        raise ValueError(
            "a split by parameter needs held_out=[values], above=LIMIT or below=LIMIT to hold values out."
        )
    column = np.asarray(values[parameter], dtype=np.float64)
    outside = np.zeros(len(column), dtype=bool)
    for value in held_out or ():
        found = np.isclose(column, value, rtol=1e-5, atol=0)
        if not found.any():
            near = ", ".join(f"{v:g}" for v in np.unique(column)[:12])
            raise ValueError(f"no trajectory has {parameter} = {value:g}; there are: {near}.")
        outside |= found
    outside |= column > above if above is not None else False
    outside |= column < below if below is not None else False
    if outside.all() or not outside.any():
        raise ValueError(
            f"{int(outside.sum())} of {len(column)} trajectories are held out by {parameter}, which lies between "
            f"{column.min():g} and {column.max():g}; some must be and some must not."
        )
    rng = np.random.default_rng(seed)
    train: list[int] = []
    validation: list[int] = []
    inside_test: list[int] = []
    for value in np.unique(column[~outside]):
        members = rng.permutation(np.flatnonzero((column == value) & ~outside))
        num_valid, num_test = (round(share * len(members)) for share in (valid, test))
        validation += members[:num_valid].tolist()
        inside_test += members[num_valid : num_valid + num_test].tolist()
        train += members[num_valid + num_test :].tolist()
    if not validation and not inside_test and len(train) > 2:  # every value is one trajectory's own
        order = rng.permutation(train).tolist()
        num_valid, num_test = (max(1, round(share * len(order))) for share in (valid, test))
        validation, inside_test = order[:num_valid], order[num_valid : num_valid + num_test]
        train = order[num_valid + num_test :]
    tested = np.flatnonzero(outside).tolist() if distribution == "out" else inside_test
    splits = {
        "train": tuple(sorted(train)),
        "valid": tuple(sorted(validation)),
        "test": tuple(sorted(tested)),
    }
    return Partition(splits, len(column), f"by {parameter}, tested {distribution} of distribution")


_RULES: Mapping[str, Callable[..., Partition]] = {"trajectory": by_trajectory, "parameter": by_parameter}


def divided(
    name: str,
    whole: Trajectories,
    split: Mapping[str, Any] | None,
    source_rule: Callable[[int], Partition],
    provenance: Mapping[str, Any] | None = None,
) -> DataSet:
    """Return a data set split as a configuration says, or as its source prescribes.

    Args:
        name: of the data set.
        whole: all trajectories.
        split: ``{"rule": "trajectory" or "parameter", ...}`` with the options of `by_trajectory` or
            `by_parameter`; None or ``{"rule": "source"}`` for the source's.
        source_rule: what the source prescribes, by number of trajectories.
        provenance: where the numbers come from.

    Raises:
        ValueError: for an unknown rule or option, or splits that share trajectories or are empty.
    """
    options = dict(split or {"rule": "source"})
    rule = options.pop("rule", "trajectory")
    if rule == "source":
        if options:
            raise ValueError(f"the source's split takes no options; given: {', '.join(options)}.")
        return source_rule(whole.num_trajectories).divide(name, whole, provenance)
    if rule not in _RULES:
        raise ValueError(
            f"there is no rule {rule!r} of splitting.{did_you_mean(rule, ('source', *_RULES))} Allowed: source, "
            f"{', '.join(_RULES)}."
        )
    check_options(f"the split by {rule}", _RULES[rule], options, num_positional=1)
    first: Any = whole.num_trajectories
    if rule == "parameter":
        table = parameter_table(whole)
        first = {parameter: table[:, i] for i, parameter in enumerate(whole.spec.parameter_names)}
    return _RULES[rule](first, **options).divide(name, whole, provenance)


def parameter_table(trajectories: Trajectories) -> np.ndarray:
    """Return the parameters of all trajectories, ``(trajectory, parameter)``."""
    return np.stack([trajectories.parameters(i) for i in range(trajectories.num_trajectories)])


def without_duplicates(names: Iterable[Any], digests: Mapping[Any, str]) -> list[Any]:
    """Return names without those whose content another one before them has; a warning names them."""
    kept: dict[str, Any] = {}
    for name in names:
        if (digest := digests[name]) in kept:
            log.warning("%s has the same content as %s and is left out.", name, kept[digest])
        else:
            kept[digest] = name
    return list(kept.values())


def refuse_shared_files(found: Mapping[str, Sequence[Path]]) -> None:
    """Refuse a file that is in two splits; only files of equal size can be, and only those are read.

    Raises:
        ValueError: naming both places.
    """
    sizes: dict[int, list[tuple[str, Path]]] = {}
    for name, files in found.items():
        for file in files:
            sizes.setdefault(file.stat().st_size, []).append((name, file))
    for group in sizes.values():
        if len({name for name, _ in group}) < 2:
            continue
        owners: dict[str, tuple[str, Path]] = {}
        for name, file in group:
            first = owners.setdefault(_head_digest(file), (name, file))
            if first[0] != name and content_digest(first[1]) == content_digest(file):
                raise ValueError(
                    f"{file} in {name} and {first[1]} in {first[0]} are the same file; splits must not share "
                    "trajectories. Download the data set again."
                )


def _head_digest(file: Path) -> str:
    size = file.stat().st_size
    with file.open("rb") as content:
        digest = hashlib.sha256(content.read(2**16))
        content.seek(max(0, size // 2))
        digest.update(content.read(2**16))
    return digest.hexdigest()
