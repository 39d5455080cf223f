"""A claim file, ``benchmarks/claims/<model>.yaml``: what a paper says and the experiment that puts it to the test.

Settings of data and training are overrides in Hydra's words, as they would be typed after ``train.py``, so that every
run of a claim can be repeated by hand.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pdesurrogate.registry import did_you_mean

from ..options import OptionError

FOLDER = Path(__file__).resolve().parent
VERDICTS = ("reproduced", "partly", "not")
ERRORS = ("one_step", "rollout")
CORRELATION_TIME = "correlation_time"
TIME_TO_ERROR = "time_to_error"
COSTS = ("parameters", "spectral_parameters", "cpu_seconds", TIME_TO_ERROR)


@dataclass(frozen=True)
class Paper:
    """Where a claim comes from.

    Attributes:
        citation: authors, year, title, where.
        number: the paper's own, with its setting.
        metric: of that number, in the paper's words.
    """

    citation: str
    number: str
    metric: str


@dataclass(frozen=True)
class DataChoice:
    """One data set: a file of ``conf/data`` and overrides, all of ``data.``, for generation and training alike."""

    data: str
    overrides: tuple[str, ...] = ()


@dataclass(frozen=True)
class Matching:
    """An arm's option is chosen so that it has as many real parameters as another arm."""

    arm: str
    option: str = "width"
    multiple_of: int = 1


@dataclass(frozen=True)
class Arm:
    """One contestant: a file of ``conf/model`` and overrides.

    Attributes:
        model: name of the file.
        overrides: of its runs, after those of the scale.
        baseline: whether the others are compared with it; exactly one arm is.
        match: how it gets the size of another arm.
        sets: the data sets that it is trained on; all if empty.
    """

    model: str
    overrides: tuple[str, ...] = ()
    baseline: bool = False
    match: Matching | None = None
    sets: tuple[str, ...] = ()


@dataclass(frozen=True)
class Selection:
    """One side of a ratio.

    Attributes:
        arm: whose.
        measure: a test error, ``one_step`` or ``rollout``; ``correlation_time`` of the rollout, see `scoring`; or a
            cost, ``parameters``, ``spectral_parameters``, ``cpu_seconds`` (of training) or ``time_to_error`` (of
            training until the validation error that both sides reach, see `rules`).
        set: data set of training and test; the first of the file by default.
        grid: refinement of the test grid over the training grid.
        field: of the error; the mean over all fields if empty.
    """

    arm: str
    measure: str = "one_step"
    set: str = ""
    grid: int = 1
    field: str = ""


@dataclass(frozen=True)
class Claim:
    """A sentence and the rule that decides on it: the ratio of two means against a bound, see `rules`.

    Attributes:
        says: the sentence.
        of: numerator of the ratio.
        over: denominator.
        below: the bound that the ratio has to stay below.
        partly_below: a weaker bound, for an effect that is there and smaller than claimed.
        why: an explanation for each verdict that may come out; only that of the computed one is shown.
    """

    says: str
    of: Selection
    over: Selection
    below: float
    partly_below: float | None = None
    why: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Scale:
    """One size of the experiment: what is cheap enough for the machine that it names.

    Attributes:
        seeds: of weights and shuffling; every arm is trained with each.
        steps: gradient steps of every run, rounded up to whole epochs; of a model of several stages, each stage.
        arm_steps: of single arms that have steps of their own.
        validations: about how many times a run is validated.
        grids: refinements of the test grid over the training grid.
        horizon: frames of the rollouts.
        overrides: of every run.
        data: further ``data.`` overrides of every set.
        sets: further ones of single sets.
        arms: further overrides of single arms.
    """

    seeds: tuple[int, ...]
    steps: int
    validations: int = 20
    grids: tuple[int, ...] = (1,)
    horizon: int = 1
    overrides: tuple[str, ...] = ()
    data: tuple[str, ...] = ()
    sets: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    arms: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    arm_steps: Mapping[str, int] = field(default_factory=dict)

    def steps_of(self, arm: str) -> int:
        """Return the gradient steps of an arm's runs."""
        return self.arm_steps.get(arm, self.steps)


@dataclass(frozen=True)
class ClaimFile:
    """The whole file.

    Attributes:
        name: of the file, without its ending.
        title: heading of its section.
        paper: the source.
        here: what is done here and how it departs from the paper.
        sets: data sets by name.
        arms: contestants by name.
        claims: what is decided.
        scales: ``cpu`` (minutes on two cores) and ``gpu`` (minutes on one large GPU).
        metric: registered name of the error.
    """

    name: str
    title: str
    paper: Paper
    here: str
    sets: Mapping[str, DataChoice]
    arms: Mapping[str, Arm]
    claims: tuple[Claim, ...]
    scales: Mapping[str, Scale]
    metric: str = "relative_l2"

    def __post_init__(self) -> None:
        _check_names(self)
        for claim in self.claims:
            _check_claim(self, claim)

    @property
    def baseline(self) -> str:
        """Name of the arm that the others are compared with."""
        return next(name for name, arm in self.arms.items() if arm.baseline)

    def set_of(self, selection: Selection) -> str:
        """Return the data set that a selection means."""
        return selection.set or next(iter(self.sets))

    def design(self, scale: str) -> dict[str, Any]:
        """Return what the numbers of a scale depend on, as plain types; sentences and bounds are no part of it."""
        parts = {"metric": self.metric, "sets": self.sets, "arms": self.arms, "scale": self.scales[scale]}
        design = {key: _plain(value) for key, value in parts.items()}
        if not self.scales[scale].arm_steps:  # as in most designs, which say nothing of it
            del design["scale"]["arm_steps"]
        return design


def names() -> list[str]:
    """Return the names of the files that there are."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load(name: str) -> ClaimFile:
    """Read a claim file by its name or, where that ends in ``.yaml``, its path.

    Raises:
        OptionError: if there is none, or for any key or value that cannot be used, naming file and key.
    """
    from omegaconf import OmegaConf

    path = Path(name) if name.endswith(".yaml") else FOLDER / f"{name}.yaml"
    if not path.is_file():
        raise OptionError(
            f"There are no claims {name!r}.{did_you_mean(name, names())} Available: {', '.join(names())}."
        )
    content = OmegaConf.to_container(OmegaConf.load(path))
    try:
        return _file(path.stem, content)
    except OptionError as error:
        raise OptionError(f"{path.name}: {error}") from None


def _file(name: str, content: Any) -> ClaimFile:
    given = _section(ClaimFile, content, "the file", derived=("name",))
    claims = given["claims"]
    if not isinstance(claims, list) or not claims:
        raise OptionError("claims is empty; a file makes at least one.")
    return ClaimFile(
        **{
            **given,
            "name": name,
            "paper": Paper(**_section(Paper, given["paper"], "paper")),
            "sets": _each(given["sets"], "sets", lambda c, w: DataChoice(**_section(DataChoice, c, w))),
            "arms": _each(given["arms"], "arms", _arm),
            "claims": tuple(_claim(c, f"claims[{i}]") for i, c in enumerate(claims)),
            "scales": _each(given["scales"], "scales", _scale),
        }
    )


def _arm(content: Any, where: str) -> Arm:
    given = _section(Arm, content, where)
    if given.get("match") is not None:
        given["match"] = Matching(**_section(Matching, given["match"], f"{where}.match"))
    return Arm(**given)


def _claim(content: Any, where: str) -> Claim:
    given = _section(Claim, content, where)
    for side in ("of", "over"):
        given[side] = Selection(**_section(Selection, given[side], f"{where}.{side}"))
    given["why"] = _each(given.get("why", {}), f"{where}.why", lambda text, _: str(text))
    return Claim(**given)


def _scale(content: Any, where: str) -> Scale:
    given = _section(Scale, content, where)
    for key in ("sets", "arms"):
        given[key] = _each(given.get(key, {}), f"{where}.{key}", lambda c, w: _words(c, w))
    given["arm_steps"] = _each(
        given.get("arm_steps", {}), f"{where}.arm_steps", lambda c, w: _value("int", c, w)
    )
    scale = Scale(**given)
    counts = {"steps": scale.steps, "validations": scale.validations, "horizon": scale.horizon}
    counts |= {f"arm_steps.{arm}": steps for arm, steps in scale.arm_steps.items()}
    for key, value in counts.items():
        if value < 1:
            raise OptionError(f"{where}.{key} is {value}; it must be at least 1.")
    if not scale.seeds or 1 not in scale.grids:
        raise OptionError(f"{where} needs at least one seed, and grid 1, the training grid, among its grids.")
    return scale


def _each(content: Any, where: str, read: Any) -> dict[str, Any]:
    if not isinstance(content, Mapping):
        raise OptionError(f"{where} is {content!r}; give names, each with its settings.")
    return {str(name): read(value, f"{where}.{name}") for name, value in content.items()}


def _section(kind: type, content: Any, where: str, derived: Sequence[str] = ()) -> dict[str, Any]:
    """Return a mapping's values after checking its keys and plain types against a dataclass."""
    if not isinstance(content, Mapping):
        raise OptionError(f"{where} is {content!r}; it must have keys of its own.")
    fields = {f.name: f for f in dataclasses.fields(kind) if f.name not in derived}
    found: dict[str, Any] = {}
    for key, value in content.items():
        if key not in fields:
            raise OptionError(
                f"{where} has no key {key!r}.{did_you_mean(str(key), fields)} Keys: {', '.join(fields)}."
            )
        found[str(key)] = _value(str(fields[key].type), value, f"{where}.{key}")
    for key, entry in fields.items():
        is_needed = entry.default is entry.default_factory is dataclasses.MISSING
        if is_needed and key not in found:
            raise OptionError(f"{where} needs the key {key!r}. Keys: {', '.join(fields)}.")
    return found


def _value(kind: str, value: Any, where: str) -> Any:
    if kind == "tuple[str, ...]":
        return _words(value, where)
    if kind == "tuple[int, ...]":
        if not isinstance(value, list) or not all(type(v) is int for v in value):
            raise OptionError(f"{where} is {value!r}; give a list of whole numbers.")
        return tuple(value)
    plain = {"str": (str, "text"), "int": (int, "a whole number"), "bool": (bool, "true or false")}
    if kind in plain and type(value) is not plain[kind][0]:
        raise OptionError(f"{where} is {value!r}; give {plain[kind][1]}.")
    if kind.startswith("float") and not (kind.endswith("None") and value is None):
        if type(value) not in (int, float) or not value > 0:
            raise OptionError(f"{where} is {value!r}; give a positive number.")
        return float(value)
    return value


def _words(value: Any, where: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
        raise OptionError(f"{where} is {value!r}; give a list of texts, such as [model.width=24].")
    return tuple(value)


def _require(name: str, known: Mapping[str, Any], where: str) -> None:
    if name not in known:
        raise OptionError(
            f"{where} names {name!r}.{did_you_mean(name, known)} There are: {', '.join(known)}."
        )


def _check_names(file: ClaimFile) -> None:
    baselines = [name for name, arm in file.arms.items() if arm.baseline]
    if len(baselines) != 1:
        raise OptionError(
            f"{len(baselines)} arms are marked baseline: true ({', '.join(baselines)}); one is needed."
        )
    for name, arm in file.arms.items():
        for chosen in arm.sets:
            _require(chosen, file.sets, f"arms.{name}.sets")
        if arm.match is not None:
            _require(arm.match.arm, file.arms, f"arms.{name}.match.arm")
            if file.arms[arm.match.arm].match is not None:
                raise OptionError(f"arms.{name}.match.arm is {arm.match.arm!r}, which is matched itself.")
    for name, choice in file.sets.items():
        _check_data_overrides(choice.overrides, f"sets.{name}.overrides")
    for name, scale in file.scales.items():
        _check_data_overrides(scale.data, f"scales.{name}.data")
        for key, overrides in scale.sets.items():
            _require(key, file.sets, f"scales.{name}.sets")
            _check_data_overrides(overrides, f"scales.{name}.sets.{key}")
        for key in scale.arms:
            _require(key, file.arms, f"scales.{name}.arms")
        for key in scale.arm_steps:
            _require(key, file.arms, f"scales.{name}.arm_steps")


def _check_data_overrides(overrides: Sequence[str], where: str) -> None:
    for word in overrides:
        if not re.match(r"\+{0,2}data\.[\w.]+=", word):
            raise OptionError(
                f"{where} has {word!r}; only data.key=value belongs there, as data are generated with it."
            )


def _check_claim(file: ClaimFile, claim: Claim) -> None:
    where = f"the claim {claim.says!r}"
    for side in (claim.of, claim.over):
        _require(side.arm, file.arms, where)
        _require(file.set_of(side), file.sets, where)
        _require(side.measure, dict.fromkeys((*ERRORS, CORRELATION_TIME, *COSTS)), f"{where}, measure,")
        trained_on = file.arms[side.arm].sets
        if trained_on and file.set_of(side) not in trained_on:
            raise OptionError(f"{where}: {side.arm} is not trained on {file.set_of(side)}.")
        for name, scale in file.scales.items():
            if side.grid not in scale.grids:
                raise OptionError(f"{where} is about grid {side.grid}, which scales.{name}.grids lacks.")
    if claim.partly_below is not None and claim.partly_below <= claim.below:
        raise OptionError(f"{where}: partly_below is the weaker bound and must be above below.")
    of, over = (_kind(side.measure) for side in (claim.of, claim.over))
    if of != over:
        raise OptionError(f"{where} divides {of} by {over}.")
    if (claim.of.measure == TIME_TO_ERROR) != (claim.over.measure == TIME_TO_ERROR):
        raise OptionError(f"{where}: the time to the error of both sides is measured on both or on none.")
    for verdict, text in claim.why.items():
        _require(verdict, dict.fromkeys(VERDICTS), f"{where}, why,")
        if re.search(r"\d", text) or re.search(r"reproduc", text, flags=re.IGNORECASE):
            raise OptionError(
                f"{where}: why.{verdict} has numbers or speaks the verdict; both are computed and stand beside it. "
                "Give the reason alone."
            )


def _kind(measure: str) -> str:
    if measure in COSTS:
        return "a cost"
    return "a correlation time" if measure == CORRELATION_TIME else "an error"


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {key: _plain(part) for key, part in dataclasses.asdict(value).items()}
    if isinstance(value, Mapping):
        return {key: _plain(part) for key, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, tuple) else value
