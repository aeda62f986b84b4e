"""Batch prediction jobs (JobService): each one starts the model's container, reads, asks, writes, and stops it."""

from __future__ import annotations

import asyncio
import datetime as dt
import functools
import traceback
from collections.abc import Awaitable, Callable
from typing import Any

from google.protobuf.empty_pb2 import Empty

from cpr_kit.contract import Deployment
from cpr_kit.emulator import errors, listing, names
from cpr_kit.emulator.batch.check import check
from cpr_kit.emulator.batch.run import run
from cpr_kit.emulator.errors import ApiError, Code, failed_precondition, invalid_argument, not_found
from cpr_kit.emulator.fleet import Fleet, on_machine, started
from cpr_kit.emulator.messages import (
    BatchPredictionJob,
    DeleteBatchPredictionJobRequest,
    DeleteOperationMetadata,
    JobState,
    ListBatchPredictionJobsResponse,
    Model,
)
from cpr_kit.emulator.operations import Commit, Job, Operation
from cpr_kit.emulator.resources import containers, versions
from cpr_kit.emulator.resources.state import State, now
from cpr_kit.emulator.serving.deployed import DeployedContainer

Post = Callable[[DeployedContainer, bytes], Awaitable[tuple[int, bytes]]]
"""Posts one body to a deployed container; its status and body."""

_ENDED = tuple(
    JobState[f"JOB_STATE_{name}"] for name in ("SUCCEEDED", "FAILED", "CANCELLED", "EXPIRED", "PARTIALLY_SUCCEEDED")
)
_HOUR_S = 3600.0
_OUTPUT_ONLY = (
    *("model_version_id", "output_info", "state", "error", "partial_failures", "resources_consumed"),
    *("completion_stats", "start_time", "end_time", "satisfies_pzs", "satisfies_pzi"),
)
"""Fields that only the service fills in; a caller's are passed over (AIP-203)."""


class Jobs:
    def __init__(self, state: State, fleet: Fleet, post: Post, hold: Callable[[], float]) -> None:
        self._state = state
        self._fleet = fleet
        self._post = post
        self._hold = hold
        self._running: dict[str, asyncio.Task[None]] = {}
        self._counts: dict[str, tuple[int, int]] = {}
        self._closing = False
        self.calls: dict[str, Callable[[Any], Any]] = {
            "JobService.CreateBatchPredictionJob": self.create,
            "JobService.GetBatchPredictionJob": self.get,
            "JobService.ListBatchPredictionJobs": self.list,
            "JobService.CancelBatchPredictionJob": self.cancel,
            "JobService.DeleteBatchPredictionJob": self.delete,
        }
        state.operations.register("DeleteBatchPredictionJob", DeleteBatchPredictionJobRequest, self._delete)

    def create(self, request: Any) -> Any:
        parent = self._state.name(request.parent)
        job = BatchPredictionJob()
        job.CopyFrom(request.batch_prediction_job)
        for field in _OUTPUT_ONLY:
            job.ClearField(field)
        names.check_display_name(job.display_name)
        names.check_labels(dict(job.labels))
        check(job)
        model = self._model(job)
        if model.name:
            if self._state.name(model.name).parent != parent.parent:
                raise invalid_argument(f"{model.name} is not in {parent.parent}, where the job is to be.")
            job.model, job.model_version_id = model.name, model.version_id
        job.name = f"{parent.parent}/batchPredictionJobs/{names.new_id()}"
        job.create_time.CopyFrom(now())
        self._keep(job, "PENDING")
        self._begin(job.name)
        return job

    def _model(self, job: Any) -> Any:
        """The registered model, or one made of the job's own container."""
        if bool(job.model) == job.HasField("unmanaged_container_model"):
            raise invalid_argument("Give a batch prediction job either model or unmanaged_container_model.")
        if job.model:
            # Once the job is there, the version is fixed: an alias may move.
            name = f"{job.model}@{job.model_version_id}" if job.model_version_id else job.model
            model = versions.find(self._state, self._state.name(name, "models"))
            versions.check_servable(model)
            return model
        given = job.unmanaged_container_model
        containers.read(given.container_spec)
        return Model(
            display_name=job.display_name, container_spec=given.container_spec, artifact_uri=given.artifact_uri
        )

    def _model_display_name(self, job: Any) -> str:
        try:
            return str(self._model(job).display_name)
        except ApiError:  # the model is gone, its jobs stay
            return ""

    async def get(self, request: Any) -> Any:
        """Waits for the end for a while, so that the SDK, which asks each 5 s, hears of it at once."""
        job = self._find(request.name)
        if job.name in self._running:
            await asyncio.wait({self._running[job.name]}, timeout=self._hold())
        return self._find(request.name)

    def _find(self, text: str) -> Any:
        name = self._state.name(text, "batchPredictionJobs")
        job = self._state.jobs.get(str(name))
        if job is None:
            raise not_found(f"The BatchPredictionJob {name} does not exist.")
        return job

    def list(self, request: Any) -> Any:
        parent = self._state.name(request.parent)
        page, token = self._state.page(
            self._state.jobs.under(f"{parent.parent}/batchPredictionJobs/"),
            request,
            listing.batch_prediction_jobs(self._model_display_name),
            parent.parent,
        )
        return ListBatchPredictionJobsResponse(batch_prediction_jobs=page, next_page_token=token)

    def cancel(self, request: Any) -> Empty:
        job = self._find(request.name)
        if job.name in self._running:
            self._keep(job, "CANCELLING")
            self._running[job.name].cancel()
        return Empty()

    def delete(self, request: Any) -> Operation:
        job = self._find(request.name)
        if job.state not in _ENDED:
            raise failed_precondition(f"The BatchPredictionJob {job.name} has not ended; cancel it first.")
        # The SDK finds operations of jobs under their location alone.
        location = self._state.name(job.name).parent
        return self._state.operations.start(
            "DeleteBatchPredictionJob", location, request, {"job": job.name}, DeleteOperationMetadata()
        )

    async def _delete(self, job: Job) -> Commit:
        def commit() -> Empty:
            self._state.jobs.delete(job.plan["job"])
            return Empty()

        return commit

    # Work

    def resume(self) -> None:
        """Jobs that had not ended begin again; their output is written anew."""
        for job in self._state.jobs.under(""):
            if job.state == JobState.JOB_STATE_CANCELLING:
                self._end(job.name, "CANCELLED", errors.cancelled("The job was cancelled."))
            elif job.state not in _ENDED:
                self._begin(job.name)

    async def close(self) -> None:
        self._closing = True
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _begin(self, name: str) -> None:
        task = asyncio.get_running_loop().create_task(self._run(name), name=name)
        self._running[name] = task
        task.add_done_callback(lambda _: self._running.pop(name, None))

    async def _run(self, name: str) -> None:
        try:
            await self._state.operations.before("CreateBatchPredictionJob", names.location_of(name))
            outcome = await self._work(self._find(name))
        except ApiError as error:
            self._end(name, "FAILED", error)
        except asyncio.CancelledError:
            if not self._closing:
                self._end(name, "CANCELLED", errors.cancelled("The job was cancelled."))
        except Exception as error:  # noqa: BLE001 - a job ends, whatever is wrong
            self._fleet.report(f"the emulator failed in {name}:\n{traceback.format_exc()}")
            self._end(name, "FAILED", ApiError(Code.INTERNAL, f"the emulator failed: {type(error).__name__}: {error}"))
        else:
            self._end(name, outcome.state, outcome.error, outcome)

    async def _work(self, job: Any) -> Any:
        container = await self._started(job)
        try:
            job = self._find(job.name)
            job.start_time.CopyFrom(now())
            self._keep(job, "RUNNING")
            created = job.create_time.ToDatetime(dt.timezone.utc)
            return await run(
                job,
                lambda body: self._post(container, body),
                self._state.depot,
                model_display_name=self._model(job).display_name,
                settings=self._state.settings,
                now=created,
                progress=functools.partial(self._count, job.name),
                workers=min(max(job.dedicated_resources.starting_replica_count, 1), self._state.settings.max_replicas),
                backoff_s=self._state.settings.batch_backoff_s,
                iso_directory=self._state.settings.batch_directory_iso,
            )
        finally:
            await asyncio.shield(asyncio.to_thread(container.stop, 0.0))

    def _count(self, name: str, successful: int, failed: int) -> None:
        self._counts[name] = (successful, failed)

    async def _started(self, job: Any) -> DeployedContainer:
        resources = job.dedicated_resources
        name = self._state.name(job.name)
        model = self._model(job)
        deployment = Deployment(
            endpoint_id="", deployed_model_id=name.id, project_number=name.project, storage_uri=model.artifact_uri
        )
        container = self._fleet.make(
            model,
            on_machine(deployment, resources.machine_spec),
            replicas=max(resources.starting_replica_count, 1),
            required=1,
        )
        await started(container)
        return container

    def _end(self, name: str, state: str, error: ApiError | None, outcome: Any = None) -> None:
        job = self._state.jobs.get(name)
        if job is None:
            return
        successful, failed = self._counts.pop(name, (0, 0))
        job.completion_stats.successful_count, job.completion_stats.failed_count = successful, failed
        if outcome is not None:
            for line in outcome.warnings:
                self._fleet.report(f"{job.display_name}: {line}")
            job.output_info.gcs_output_directory = outcome.output_directory
            job.completion_stats.successful_count = outcome.successful
            job.completion_stats.failed_count = outcome.failed
            job.completion_stats.incomplete_count = outcome.incomplete
            for text in outcome.partial_failures:
                job.partial_failures.add(code=Code.INTERNAL, message=text)
        if error is not None:
            job.error.code, job.error.message = error.code, error.message
        job.end_time.CopyFrom(now())
        if job.HasField("start_time"):
            taken = (job.end_time.ToDatetime() - job.start_time.ToDatetime()).total_seconds()
            job.resources_consumed.replica_hours = (
                taken / _HOUR_S * max(job.dedicated_resources.starting_replica_count, 1)
            )
        self._keep(job, state)

    def _keep(self, job: Any, state: str) -> None:
        job.state = JobState[f"JOB_STATE_{state.removeprefix('JOB_STATE_')}"]
        job.update_time.CopyFrom(now())
        self._state.jobs.put(job.name, job)
