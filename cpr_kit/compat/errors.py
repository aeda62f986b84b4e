"""Upstream's names for errors, so that `except DockerError` keeps working."""

from __future__ import annotations

from cpr_kit.errors import ContainerError

DockerError = ContainerError
