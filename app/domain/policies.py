"""The policy of a model: every threshold that decides, with unit, default and bounds."""

from dataclasses import dataclass, field
from typing import Annotated, Any, Final, Literal

from annotated_types import Ge, Gt, Le, Lt, MinLen

from app.domain.seasons import Season
from app.domain.training import HIGHEST_PRIORITY

Share = Annotated[float, Ge(0.0), Le(1.0)]
Seconds = Annotated[float, Ge(0.0)]
Count = Annotated[int, Ge(1)]
Options = dict[str, Any]
Named = dict[str, Options]
"""Plug-ins by name with their options; the order does not matter."""

MOST_TRIALS: Final = 200
_CONFIG: Final[Any] = {"extra": "forbid", "allow_inf_nan": False}


@dataclass(frozen=True)
class SelfTestPolicy:
    """When the detectors are shown known shifts in a copy of live rows, and what they must see.

    Attributes:
        every_days: between two self-tests of the detectors; 0 is never.
        minimum_power: detectors are blind to a shift that they surely (upper end of a 95 %
            interval) see in less than this share of windows.
        budget_seconds: a test stops there, for it holds up the checks of its worker.
    """

    every_days: Annotated[int, Ge(0)] = 7
    minimum_power: Annotated[float, Gt(0.0), Lt(1.0)] = 0.8
    budget_seconds: Annotated[float, Gt(0.0), Le(600.0)] = 30.0
    __pydantic_config__ = _CONFIG


@dataclass(frozen=True)
class CheckPolicy:
    """When a window is looked at, and how drift in it is measured.

    Attributes:
        every_seconds: new rows wait at most so long for a check.
        settle_seconds: a check waits until no row or label arrived for so long.
        window_rows: the newest observations compared with the reference, at most.
        sample_rows: of the window's newest rows, so many at most are read as they are: by detectors
            that need more than counts, and for what only the model can say of a row (its embedding,
            and how sure it is where no scores were logged, or not of every class).
        reference_rows: rows of the reference read, at most; spread evenly over it.
        minimum_rows: below so many observations the finding is "insufficient data".
        fdr: false discovery rate over the signals of one report, at most.
        false_alarm_rows: at most one false alarm of drift in so many rows on average, whatever the
            rhythm of checks; half of it belongs to the tests of windows (a report's own rate is
            at most its fresh rows over twice this), half to the e-detectors that see every row.
        season: what a window's rows are compared within (UTC): with reference rows of the same
            hour, weekday or hour of the week, in the proportions of the window. Needs a reference
            whose rows tell their time; where a season has too few, reports say what was taken.
        detectors: by kind of signal, with their options (each has a tolerated effect: a smaller
            shift is no drift however many rows show it); Evidently's are named
            "evidently:<stat test>". The scores of all classes are measured as an embedding is, by
            `classifier` alone where that is named.
        self_test: whether these would see a shift if it came.
    """

    every_seconds: Annotated[float, Gt(0.0)] = 30.0
    settle_seconds: Seconds = 1.0
    window_rows: Count = 1000
    sample_rows: Count = 1000
    reference_rows: Count = 2000
    minimum_rows: Count = 50
    fdr: Annotated[float, Gt(0.0), Lt(1.0)] = 0.05
    false_alarm_rows: Annotated[float, Ge(100.0)] = 10_000.0
    season: Season = "none"
    detectors: dict[str, Named] = field(
        default_factory=lambda: {
            "numeric": {"calibrated": {}},
            "categorical": {"calibrated": {}},
            "embedding": {"classifier": {}, "neighbours": {}},
        }
    )
    self_test: SelfTestPolicy = field(default_factory=SelfTestPolicy)

    @property
    def most_read(self) -> int:
        """Rows of a full window that are read as they are."""
        return min(self.window_rows, self.sample_rows)

    __pydantic_config__ = _CONFIG


@dataclass(frozen=True)
class FaultPolicy:
    """When a change of the inputs is called a fault upstream, which opens an incident.

    Shares are differences between the newest rows and the reference, and what counts is the lower
    end of their interval (99.9 %); 1 turns a kind off.

    Attributes:
        minimum_rows: newest rows below which no fault is called, and none called mended.
        missing_share: a field goes missing in so much larger a share of the rows.
        constant_share: so large a share of the numbers that used to differ from one value (of a
            field, or of what is measured of a text or picture) have become that value; a field
            of any type that varied and has but one value is constant too.
        unseen_share: so many more categories than expected are ones that the reference never had.
        beyond_share: so many more numbers lie far outside the reference's middle 98 % (by half its
            width).
        scale_factor: all numbers are surely so many times larger or smaller.
        refused_share: so many of the observations since the last look broke the input contract.
    """

    minimum_rows: Count = 50
    missing_share: Annotated[float, Gt(0.0), Le(1.0)] = 0.2
    constant_share: Annotated[float, Gt(0.0), Le(1.0)] = 0.7
    unseen_share: Annotated[float, Gt(0.0), Le(1.0)] = 0.5
    beyond_share: Annotated[float, Gt(0.0), Le(1.0)] = 0.5
    scale_factor: Annotated[float, Gt(1.0)] = 4.0
    refused_share: Annotated[float, Gt(0.0), Le(1.0)] = 0.2
    __pydantic_config__ = _CONFIG


@dataclass(frozen=True)
class PerformancePolicy:
    """When labelled accuracy counts as fallen.

    Attributes:
        tolerance: accuracy may sit so far under what was accepted.
        allowance_errors: and so many standard errors of the accepted score further, since that
            was itself measured on a finite holdout.
        average_run_length: at most one false alarm in so many labelled rows.
        suspicion_run_length: the same when a drift finding agrees; a weaker proof suffices then,
            if it stands at the time of the decision. A stronger one without drift must still
            stand there too, or later answers have made good what it was about.
        minimum_labels: labelled answers of the champion below which nothing is concluded.
        yardstick: "best" holds every champion to the best score that one was ever accepted with,
            so that a retrain on harder data does not lower the bar; "own" to its own.
    """

    tolerance: Share = 0.02
    allowance_errors: Annotated[float, Ge(0.0)] = 1.0
    average_run_length: Annotated[float, Gt(1.0)] = 10_000.0
    suspicion_run_length: Annotated[float, Gt(1.0)] = 1_000.0
    minimum_labels: Count = 50
    yardstick: Literal["best", "own"] = "best"
    __pydantic_config__ = _CONFIG


@dataclass(frozen=True)
class SelectionPolicy:
    """Which of the rows that may be learned from a run trains on; old ones belong to it by default.

    Attributes:
        by: "all" of them; "new" ones, since the champion was trained (old rows are then forgotten:
            nothing stands for them); the newest in a "window" of so many rows or days; "balanced",
            as many of each class; all new rows and a "reservoir" of old ones, as many of each
            class; or the "hardest", which the champion got wrong or was least sure of, and some
            others. Numbers are balanced by the quarters of their range.
        maximum_rows: of a window, of balanced rows (null is as many of each class as the rarest
            has, but 20), of the old ones in a reservoir (at least one of each class), or of the
            hardest and others together.
        days: of a window, before the newest row; a row that does not tell its time is outside.
        others_share: of the hardest rows' room, drawn by lot from all others, those among them
            about which the champion's answer is not known.
        seed: of the lot. It is by id, so that a reservoir keeps its rows while more arrive.
    """

    by: Literal["all", "new", "window", "balanced", "reservoir", "hardest"] = "all"
    maximum_rows: Count | None = None
    days: Annotated[float, Gt(0.0)] | None = None
    others_share: Share = 0.3
    seed: Annotated[int, Ge(0), Lt(2**31)] = 0
    __pydantic_config__ = _CONFIG

    def __post_init__(self) -> None:
        """Refuse a selection that does not say how much.

        Raises:
            ValueError: which knob it lacks.
        """
        if self.by == "window" and self.maximum_rows is None and self.days is None:
            raise ValueError("a window needs maximum_rows or days")
        if self.by in {"reservoir", "hardest"} and self.maximum_rows is None:
            raise ValueError(f"{self.by} needs maximum_rows")


@dataclass(frozen=True)
class KnobRange:
    """Values of a knob from low to high, both included.

    Attributes:
        log: whether values are as likely between 1 and 10 as between 10 and 100.
    """

    low: float
    high: float
    log: bool = False
    __pydantic_config__ = _CONFIG

    def __post_init__(self) -> None:
        """Refuse an empty range, and a logarithm of what has none.

        Raises:
            ValueError: which of both.
        """
        if not self.low < self.high:
            raise ValueError("low must be below high")
        if self.log and self.low <= 0:
            raise ValueError("low must be above 0 where log is true")


@dataclass(frozen=True)
class KnobChoices:
    """The values that a knob may have."""

    choices: Annotated[list[str | float | bool | None], MinLen(2)]
    __pydantic_config__ = _CONFIG


@dataclass(frozen=True)
class SearchPolicy:
    """How a recipe is searched for: by trials, each a training run of its own, judged apart.

    Attributes:
        n_trials: at most.
        budget_seconds: of all trials together; null is the run's deadline alone.
        space: the range or choices of each knob that is searched; null is the task type's own.
        pruner: what stops a trial that falls behind: "median" of the others at the same epoch,
            "hyperband", or "none".
        validation_share: of the newest rows, set apart from the training rows to judge trials on.
    """

    n_trials: Annotated[int, Ge(1), Le(MOST_TRIALS)] = 20
    budget_seconds: Annotated[float, Gt(0.0)] | None = None
    space: dict[str, KnobRange | KnobChoices] | None = None
    pruner: Literal["median", "hyperband", "none"] = "median"
    validation_share: Annotated[float, Gt(0.0), Le(0.5)] = 0.2
    __pydantic_config__ = _CONFIG


@dataclass(frozen=True)
class RetrainPolicy:
    """When a training run may start, and from what.

    Attributes:
        cool_down_seconds: between the end of one run and the start of the next.
        minimum_new_labels: labelled observations that no version has been trained on.
        minimum_growth_share: new labels must be this share of the champion's training rows,
            for a little more data changes little ...
        sufficient_regret_share: ... unless the champion has made so many avoidable errors since
            it took over, as a share of its training rows: then it cannot wait.
        start_from: "champion" (warm start) or "base".
        recipe: the task type's knobs; what is left out takes the task type's default.
        selection: which rows a run trains on.
        search: searches for the knobs that suit these rows best (`n_trials`, `budget_seconds`,
            `space`, `pruner`, `validation_share`); null trains by the recipe as it is.
        holdout_share: of the newest labelled rows kept out of training to judge on.
        checkpoint_every_seconds: at most so much work is lost with a worker.
        deadline_seconds: a run that takes longer is stopped.
        priority: of its runs among those of all models that wait for a worker; larger goes first,
            and a request may name another.
        concurrency: so many of its runs are trained at once.
        maximum_in_flight: so many of its runs may be queued, trained or judged at once. Triggers
            start none while there is one; requests may, up to this.
    """

    cool_down_seconds: Seconds = 5.0
    minimum_new_labels: Count = 50
    minimum_growth_share: Annotated[float, Ge(0.0)] = 0.5
    sufficient_regret_share: Annotated[float, Ge(0.0)] = 0.03
    start_from: Literal["champion", "base"] = "champion"
    recipe: Options = field(default_factory=dict)
    selection: SelectionPolicy = field(default_factory=SelectionPolicy)
    search: SearchPolicy | None = None
    holdout_share: Annotated[float, Gt(0.0), Lt(1.0)] = 0.25
    checkpoint_every_seconds: Annotated[float, Gt(0.0)] = 10.0
    deadline_seconds: Annotated[float, Gt(0.0)] = 7200.0
    priority: Annotated[int, Ge(-HIGHEST_PRIORITY), Le(HIGHEST_PRIORITY)] = 0
    concurrency: Annotated[int, Ge(1), Le(64)] = 1
    maximum_in_flight: Annotated[int, Ge(1), Le(1000)] = 1
    __pydantic_config__ = _CONFIG


@dataclass(frozen=True)
class RetentionPolicy:
    """What is forgotten, and when; days are days of UTC, and what is not named is kept.

    Attributes:
        inputs_days: inputs and scores of an observation; its id, answer and label stay.
        quarantine_days: rows that broke the input contract.
        reports_days: Evidently's page and JSON of a report, and what moved; its scores and finding
            stay.
    """

    inputs_days: Count | None = None
    quarantine_days: Count | None = None
    reports_days: Count | None = None
    __pydantic_config__ = _CONFIG


@dataclass(frozen=True)
class Policy:
    """Everything that decides for one model; a versioned document.

    Attributes:
        triggers: which triggers are asked, with their options.
        gates: which gates a challenger must pass, with their options.
    """

    check: CheckPolicy = field(default_factory=CheckPolicy)
    faults: FaultPolicy = field(default_factory=FaultPolicy)
    performance: PerformancePolicy = field(default_factory=PerformancePolicy)
    retrain: RetrainPolicy = field(default_factory=RetrainPolicy)
    retention: RetentionPolicy = field(default_factory=RetentionPolicy)
    triggers: Named = field(default_factory=lambda: {"drift": {}, "performance": {}})
    gates: Named = field(
        default_factory=lambda: {
            "beats-baseline": {},
            "not-inferior": {},
            "keeps-the-old": {},
            "no-leakage": {},
        }
    )
    __pydantic_config__ = _CONFIG
