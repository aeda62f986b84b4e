"""A plan of all regions, as a file that another run does exactly, or refuses where it no longer holds."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cpr_kit.deploy.plan import RegionPlan, Step
from cpr_kit.errors import DeclinedError, UsageError

FORMAT = "cpr-plan/1"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What `up` would do, region by region. `canary` is the new version's percent at first; 0 is all at once."""

    regions: tuple[RegionPlan, ...]
    canary: int = 0

    @property
    def changes(self) -> bool:
        return any(region.changes for region in self.regions)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Each once, however many regions have it."""
        return tuple(dict.fromkeys(warning for region in self.regions for warning in region.warnings))

    def of(self, region: str) -> RegionPlan | None:
        return next((each for each in self.regions if each.region == region), None)

    def to_json(self) -> dict[str, Any]:
        regions = [each.to_json() for each in self.regions]
        return {"format": FORMAT, "changes": self.changes, "canary": self.canary, "regions": regions}

    @classmethod
    def from_json(cls, value: Any) -> Plan:
        """Raises UsageError for what is no plan."""
        found = value.get("format") if isinstance(value, dict) else None
        if found != FORMAT:
            said = f'its format is "{found}"' if isinstance(found, str) else "it names no format"
            raise UsageError(f'it is no plan of this cpr: {said}, and that of a plan is "{FORMAT}"')
        try:
            regions = tuple(RegionPlan.from_json(each) for each in value["regions"])
            canary = value["canary"]
        except KeyError as error:
            raise UsageError(f'it is no whole plan: "{error.args[0]}" is missing') from error
        except (TypeError, AttributeError, ValueError) as error:
            raise UsageError("it is no whole plan: something in it is not what cpr plan writes") from error
        if not regions or type(canary) is not int:
            raise UsageError("it is no whole plan: regions or canary are not there")
        return cls(regions=regions, canary=canary)

    def write(self, path: Path) -> None:
        try:
            path.write_text(json.dumps(self.to_json(), indent=2) + "\n", "utf-8")
        except OSError as error:
            raise UsageError(f"{path} cannot be written: {error.strerror}") from error

    @classmethod
    def read(cls, path: Path) -> Plan:
        try:
            return cls.from_json(json.loads(path.read_text("utf-8")))
        except OSError as error:
            raise UsageError(f"{path} cannot be read: {error.strerror}") from error
        except json.JSONDecodeError as error:
            where = f"{path}, line {error.lineno}, column {error.colno}"
            raise UsageError(f"{where}: this is no JSON ({error.msg}); make one with cpr plan --out FILE") from error
        except ValueError as error:  # bytes that are no text, a number without end
            raise UsageError(f"{path} is no plan; make one with cpr plan --out FILE") from error
        except UsageError as error:
            raise UsageError(f"{path}: {error}; make one with cpr plan --out FILE") from error


def check_holds(old: Plan, new: Sequence[RegionPlan]) -> None:
    """Raises DeclinedError where what exists, or what is wanted, is not what it was when the plan was made."""
    lines = [
        f"{region.region}: {line}"
        for region in new
        if (before := old.of(region.region)) and before.fingerprint != region.fingerprint
        for line in differences(before, region)
    ]
    if lines:
        raise DeclinedError(
            "\n".join(["the plan no longer holds; what has changed since it was made:", *lines]),
            "make a new one: cpr plan --out FILE",
        )


def differences(old: RegionPlan, new: RegionPlan) -> Iterator[str]:
    """The steps that are others now."""
    before, after = ([_said(step) for step in plan.steps] for plan in (old, new))
    gone = [f"in the plan: {step}" for step in before if step not in after]
    come = [f"now: {step}" for step in after if step not in before]
    yield from gone + come or ["the same steps, but from another cpr.toml, or for an endpoint that has changed"]


def _said(step: Step) -> str:
    return f"{step.action} {step.what} {step.name}" + (f" ({step.reason})" if step.reason else "")
