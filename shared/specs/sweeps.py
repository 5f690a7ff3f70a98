"""Request bodies of the routes below /v1/sweeps."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from nightshift.families.fields import Spec, field_error
from nightshift.metrics import Sense
from shared.specs.base import Label, Name
from shared.specs.promotion import Promotion

#: Most trials of a sweep. Too high: a pass of maintenance reads all of them.
MAX_TRIALS = 1_000
#: Most parameters, and most choices of one.
MAX_PARAMETERS, MAX_CHOICES = 50, 100
#: Greatest bound, either side of 0, and most steps between two bounds. Optuna cannot calculate with greater ones.
MAX_BOUND, MAX_STEPS = 1e300, 1_000_000

Path = Annotated[
    str,
    Field(
        min_length=1,
        max_length=200,
        pattern=r"^[A-Za-z_][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*$",
        description="A field of the job by dotted path, such as `training.learning_rate`.",
    ),
]
Number = int | float


class Parameter(Spec):
    """The values that one field of the job may take: `choices`, or the numbers from `low` to `high`."""

    type: Annotated[
        Literal["choice", "int", "float"] | None,
        Field(description="Omitted: choice with `choices`, int if both bounds are whole numbers, else float."),
    ] = None
    choices: Annotated[list[Any] | None, Field(min_length=1, max_length=MAX_CHOICES)] = None
    low: Annotated[Number | None, Field(description="The least value.")] = None
    high: Annotated[Number | None, Field(description="The greatest value.")] = None
    step: Annotated[Number | None, Field(gt=0, description="Only `low`, `low + step`, …; int: 1 by default.")] = None
    log: Annotated[bool, Field(description="Draw the logarithm evenly.")] = False
    when: Annotated[
        dict[Path, Any],
        Field(
            max_length=10,
            description="Use the parameter only if the others named here have this value, or one of a list of values.",
        ),
    ] = {}

    @model_validator(mode="before")
    @classmethod
    def _named_type(cls, data: Any) -> Any:
        if not isinstance(data, dict) or data.get("type") is not None:
            return data
        bounds = [data.get(name) for name in ("low", "high", "step") if data.get(name) is not None]
        numbers = "int" if all(isinstance(bound, int) for bound in bounds) else "float"
        return {**data, "type": "choice" if "choices" in data else numbers}

    @model_validator(mode="after")
    def _consistent(self) -> Parameter:
        refused = self._objection()
        if refused is not None:
            name, message = refused
            raise field_error("Parameter", (name,), message, None)
        return self

    def _objection(self) -> tuple[str, str] | None:
        """Return the first wrong field and why, or None."""
        if self.type == "choice":
            return self._of_choices()
        return self._of_numbers()

    def _of_choices(self) -> tuple[str, str] | None:
        if self.choices is None:
            return "choices", "is required: the values to choose from; or give low and high"
        for name in ("low", "high", "step"):
            if getattr(self, name) is not None:
                return name, "is for numbers; leave it out, or give low and high instead of choices"
        if self.log:
            return "log", "is for numbers; leave it out"
        if any(one in self.choices[:place] for place, one in enumerate(self.choices)):
            return "choices", "must differ from each other"
        return None

    def _of_numbers(self) -> tuple[str, str] | None:
        if self.choices is not None:
            return "choices", f"is for choices; leave it out, or leave type {self.type} out"
        for name in ("low", "high"):
            if getattr(self, name) is None:
                return name, "is required: give low and high, or choices"
        assert self.low is not None
        assert self.high is not None
        for name in ("low", "high"):
            if abs(getattr(self, name)) > MAX_BOUND:
                return name, f"must be from {-MAX_BOUND:g} to {MAX_BOUND:g}"
        if self.type == "int" and not all(isinstance(one, int) for one in (self.low, self.high, self.step or 1)):
            return "type", "int needs whole numbers; use float"
        if self.low >= self.high:
            return "high", f"must be greater than low ({self.low:g})"
        if self.log and self.low <= 0:
            return "low", "must be greater than 0 with log"
        if self.log and self.step is not None:
            return "step", "cannot be combined with log; leave one of them out"
        if self.step is not None and self.step > self.high - self.low:
            return "step", f"is greater than the range from {self.low:g} to {self.high:g}"
        if self.step is not None and (self.high - self.low) / self.step > MAX_STEPS:
            return "step", f"gives more than {MAX_STEPS:,} values; use a greater one, or leave it out"
        return None


class Objective(Spec):
    """What the sweep improves."""

    metric: Annotated[
        str, Field(min_length=1, max_length=64, description="A metric of the job's result, such as `test_accuracy`.")
    ]
    direction: Annotated[Sense | None, Field(description="Which is better; null: the metric's own.")] = None


class Pruner(Spec):
    """When a trial is asked to finish early. It ends well, with the best model that it has."""

    name: Literal["median", "asha", "none"]
    metric: Annotated[
        str | None,
        Field(
            max_length=64,
            description="A curve of the job. null: that of the objective, on the validation part for one of the test.",
        ),
    ] = None
    warmup: Annotated[int, Field(ge=0, le=100_000, description="median: points of the curve before it may prune.")] = 0
    startup_trials: Annotated[
        int, Field(ge=0, le=1_000, description="median: complete trials before it may prune.")
    ] = 5
    min_points: Annotated[
        int, Field(ge=1, le=100_000, description="asha: points of the curve before the first decision.")
    ] = 1
    reduction: Annotated[
        int, Field(ge=2, le=100, description="asha: of so many trials one goes on, for so many times as long.")
    ] = 4


class OnBest(Spec):
    """What is done with the best trial when all trials have ended."""

    register_as: Annotated[Name | None, Field(description="The model that its model becomes a version of.")] = None
    promote: Annotated[
        Promotion | None,
        Field(
            description="With `register_as`: train once more with its parameters, and promote that model if it is "
            "better. Its job is named in `outcome`."
        ),
    ] = None
    schedule: Annotated[
        Name | None, Field(description="A schedule whose jobs are made with its parameters from then on.")
    ] = None

    @model_validator(mode="after")
    def _registers(self) -> OnBest:
        if self.promote and self.register_as is None:
            message = "is required with promote: it names the model to promote"
            raise field_error("OnBest", ("register_as",), message, None)
        return self


class SweepSpec(Spec):
    """A new sweep."""

    name: Label | None = None
    job: Annotated[
        dict[str, Any],
        Field(description="Body of POST /v1/jobs of the kind train, finetune or run, without the parameters."),
    ]
    space: Annotated[dict[Path, Parameter], Field(min_length=1, max_length=MAX_PARAMETERS)]
    objective: Objective
    trials: Annotated[
        int | None, Field(ge=1, le=MAX_TRIALS, description="Number of trials. null: all points of a grid.")
    ] = None
    concurrency: Annotated[int, Field(ge=1, le=1_000, description="Most trials at a time.")] = 2
    sampler: Literal["tpe", "random", "grid", "cmaes"] = "tpe"
    pruner: Pruner = Pruner(name="none")
    seed: Annotated[int, Field(ge=0, le=2**32 - 1, description="Of the sampler's draws.")] = 0
    on_best: OnBest = OnBest()

    @model_validator(mode="before")
    @classmethod
    def _short_pruner(cls, data: Any) -> Any:
        """Accept the name of a pruner for one with its defaults."""
        if isinstance(data, dict) and isinstance(data.get("pruner"), str):
            return {**data, "pruner": {"name": data["pruner"]}}
        return data


class MoreTrials(Spec):
    """Trials to add to a sweep."""

    count: Annotated[int, Field(ge=1, le=MAX_TRIALS)]
