"""What a plan of rights is made of: bindings, the roles of one's own that they name, what is still unknown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["project", "repository", "bucket", "service account"]


@dataclass(frozen=True, kw_only=True)
class Resource:
    """What a role is granted on. `name` is a project's id, a repository's or bucket's name, an account's email."""

    kind: Kind
    name: str
    project: str
    location: str = ""

    def __str__(self) -> str:
        match self.kind:
            case "project":
                return f"project {self.name}"
            case "repository":
                return f"repository {self.name} in {self.location} of project {self.project}"
            case "bucket":
                return f"bucket gs://{self.name}"
            case _:
                return f"service account {self.name}"


@dataclass(frozen=True, kw_only=True)
class CustomRole:
    """A role of a project's own, with nothing but what is needed."""

    id: str
    project: str
    title: str
    permissions: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"projects/{self.project}/roles/{self.id}"


@dataclass(frozen=True, kw_only=True)
class Binding:
    """One role for one member on one resource, and what it is for. `source` is the document that says so."""

    who: Literal["caller", "vertex", "run-as", "deployer"]
    purpose: str
    """In two or three words; no two bindings of a plan have the same purpose and member."""
    member: str
    role: str
    resource: Resource
    reason: str
    source: str
    custom: CustomRole | None = None
    unconfirmed: str = ""
    """Where the plan differs from the documents, and what they say."""


@dataclass(frozen=True, kw_only=True)
class Unknown:
    """A value that the plan needs and nobody named; `placeholder` stands for it."""

    placeholder: str
    meaning: str
    command: str

    @property
    def name(self) -> str:
        return self.placeholder.strip("${}")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All bindings that a topology needs beyond what Vertex AI has by itself."""

    serving: str
    bindings: tuple[Binding, ...]
    notes: tuple[str, ...] = ()
    unknown: tuple[Unknown, ...] = ()

    @property
    def roles(self) -> tuple[CustomRole, ...]:
        """The custom roles that the bindings name, each once."""
        return tuple({each.custom.name: each.custom for each in self.bindings if each.custom}.values())

    @property
    def names_agent(self) -> bool:
        return any(each.who == "vertex" for each in self.bindings)
