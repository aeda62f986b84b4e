"""What the calls of all resources share: the tables, the storage, the operations."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from cpr_kit.emulator import listing, names
from cpr_kit.emulator.errors import aborted
from cpr_kit.emulator.messages import BatchPredictionJob, Endpoint, Model
from cpr_kit.emulator.names import Name, Projects
from cpr_kit.emulator.operations import Operations
from cpr_kit.emulator.settings import Settings
from cpr_kit.emulator.storage.depot import Depot
from cpr_kit.emulator.store import Store

MANAGED_BUCKET = "vertex-ai-managed-{number}"
"""Of the service's own copies of artifacts, not of the user's (Custom container requirements, AIP_STORAGE_URI)."""


@dataclass
class State:
    store: Store
    depot: Depot
    operations: Operations
    settings: Settings
    projects: Projects = field(default_factory=Projects)

    def __post_init__(self) -> None:
        self.versions = self.store.table("version", Model)
        """Each version of each model, by `.../models/M@1`."""
        self.endpoints = self.store.table("endpoint", Endpoint)
        self.jobs = self.store.table("job", BatchPredictionJob)

    def name(self, text: str, collection: str = "") -> Name:
        return names.parse(text, self.projects, collection)

    def page(self, found: Iterable[Any], request: Any, fields: listing.Filterable, scope: str) -> tuple[list[Any], str]:
        """What a list call answers of what there is under `scope`, and the token of the next page."""
        named = request.DESCRIPTOR.fields_by_name
        return listing.page(
            found,
            filter=request.filter,
            order_by=request.order_by if "order_by" in named else "",
            page_size=request.page_size,
            page_token=request.page_token,
            read_mask=request.read_mask if "read_mask" in named and request.HasField("read_mask") else None,
            fields=fields,
            scope=scope,
            default_page_size=self.settings.page_size,
        )


def now() -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(dt.datetime.now(dt.timezone.utc))
    return stamp


def etag(message: Any) -> str:
    """Changes with the resource (AIP-154)."""
    copy = type(message)()
    copy.CopyFrom(message)
    copy.etag = ""
    return hashlib.sha256(copy.SerializeToString(deterministic=True)).hexdigest()[:16]


def check_etag(state: State, given: str, present: Collection[str], name: str) -> None:
    """For consistent read-modify-write updates; "if not set, a blind overwrite update happens" (Endpoint.etag,
    Model.etag). `present` are those that are up to date. Raises ABORTED for another one (AIP-154).
    """
    if given and given not in present and state.settings.compare_etags:
        raise aborted(
            f'The etag "{given}" is not the present one of {name}, which has changed since it was read. Read it again '
            "and repeat the update with the etag that it has now, or leave the etag out to overwrite whatever is there."
        )
