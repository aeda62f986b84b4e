"""A plan of bindings as text, as gcloud commands, as Terraform, as JSON. Pure, and the same for the same plan.

Placeholders are written ${NAME}: a variable for a shell, and an interpolation for Terraform.
"""

from __future__ import annotations

import hashlib
import json
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from cpr_kit.deploy.iam import plan as plans
from cpr_kit.deploy.iam.bindings import Binding, CustomRole, Plan, Resource, Unknown
from cpr_kit.deploy.iam.topology import NUMBER

_PLACEHOLDER = re.compile(r"\$\{([A-Z_]+)\}")
_TERRAFORM = {
    NUMBER: "${data.google_project.serving.number}",
    plans.LOCATION: "${var.image_location}",
    plans.REPOSITORY: "${var.image_repository}",
    plans.BUCKET: "${var.artifacts_bucket}",
}
_WHO = {
    "caller": "who calls the endpoint",
    "vertex": "Vertex AI's service agent",
    "run-as": "the account that the container runs as",
    "deployer": "who pushes and deploys",
}


def text(plan: Plan) -> str:
    """For a person: who gets what on which, and why."""
    count = len(plan.bindings)
    lines = [f"{count} binding{'s' * (count != 1)} for models served in {plan.serving}"]
    if not plan.bindings:
        lines = [f"no binding is needed for models served in {plan.serving}: Vertex AI has its rights there by itself"]
    for binding in plan.bindings:
        lines += ["", f"{_WHO[binding.who]}: {binding.member}", f"  role  {binding.role}"]
        if binding.custom is not None:
            lines.append(f"        with {', '.join(binding.custom.permissions)}")
        lines += [f"  on    {binding.resource}", f"  why   {binding.reason}", f"  see   {binding.source}"]
        lines += [f"  note  {binding.unconfirmed}"] * bool(binding.unconfirmed)
    lines += [""] * bool(plan.unknown)
    lines += [f"{each.placeholder} is {each.meaning}: {each.command}" for each in plan.unknown]
    lines += [""] * bool(plan.notes)
    lines += [f"note: {each}" for each in plan.notes]
    return "\n".join(lines)


def as_value(plan: Plan) -> dict[str, Any]:
    """For a program. Keys and their order are part of the kit's interface."""
    return {
        "serving": plan.serving,
        "roles": [
            {"name": each.name, "title": each.title, "permissions": list(each.permissions)} for each in plan.roles
        ],
        "bindings": [_binding_value(each) for each in plan.bindings],
        "unknown": [{"name": each.name, "meaning": each.meaning, "command": each.command} for each in plan.unknown],
        "notes": list(plan.notes),
    }


def as_json(plan: Plan) -> str:
    return json.dumps(as_value(plan), indent=2)


def _binding_value(binding: Binding) -> dict[str, Any]:
    resource = binding.resource
    value: dict[str, Any] = {
        "who": binding.who,
        "member": binding.member,
        "role": binding.role,
        "resource": {"kind": resource.kind, "project": resource.project, "name": resource.name},
        "reason": binding.reason,
        "source": binding.source,
    }
    if resource.location:
        value["resource"]["location"] = resource.location
    if binding.unconfirmed:
        value["unconfirmed"] = binding.unconfirmed
    return value


def gcloud(plan: Plan) -> str:
    """A shell script; it may be run again, and stops at the first command that is refused."""
    lines = ["#!/bin/sh", f"# IAM for models served in {plan.serving}; made by cpr iam plan.", "set -eu"]
    for each in plan.unknown:
        lines += ["", f"# {each.meaning}"]
        if each.placeholder == NUMBER:
            lines.append(f'{each.name}="$({each.command})"')
        else:
            lines.append(
                f': "${{{each.name}:?set it to {each.meaning.partition(" (")[0]}; see: {_plain(each.command)}}}"'
            )
    if plan.names_agent:
        words = ["gcloud", "beta", "services", "identity", "create", "--service=aiplatform.googleapis.com"]
        lines += ["", "# The service agent, where Vertex AI was never used in the project yet."]
        lines.append(_shell([*words, f"--project={plan.serving}"]))
    for role in plan.roles:
        lines += ["", f"# A role of {role.project}'s own: {role.title}", *_role_commands(role)]
    for binding in plan.bindings:
        lines += ["", *_comment(binding), _shell(command(binding))]
    lines += [""] * bool(plan.notes) + [f"# {each}" for each in plan.notes]
    return "\n".join(lines)


def command(binding: Binding) -> list[str]:
    """The words of the command that grants it."""
    resource = binding.resource
    grant = "add-iam-policy-binding"
    start: Mapping[str, Sequence[str]] = {
        "project": ("gcloud", "projects", grant, resource.name),
        "repository": (
            *("gcloud", "artifacts", "repositories", grant, resource.name),
            *(f"--location={resource.location}", f"--project={resource.project}"),
        ),
        "bucket": ("gcloud", "storage", "buckets", grant, f"gs://{resource.name}"),
        "service account": (
            *("gcloud", "iam", "service-accounts", grant, resource.name, f"--project={resource.project}"),
        ),
    }
    # A policy with conditions makes gcloud ask which one is meant; there is none here.
    condition = ["--condition=None"] if resource.kind in ("project", "service account") else []
    return [*start[resource.kind], f"--member={binding.member}", f"--role={binding.role}", *condition]


def _role_commands(role: CustomRole) -> Iterator[str]:
    """Changed where it is there, else made."""
    options = [role.id, f"--project={role.project}", f"--title={role.title}"]
    options += [f"--permissions={','.join(role.permissions)}", "--stage=GA", "--quiet"]
    yield f"{_shell(['gcloud', 'iam', 'roles', 'update', *options])} 2>/dev/null ||"
    yield f"  {_shell(['gcloud', 'iam', 'roles', 'create', *options])}"


def _comment(binding: Binding) -> Iterator[str]:
    yield f"# {_WHO[binding.who]}: {binding.reason} [{binding.source}]"
    if binding.unconfirmed:
        yield f"# {binding.unconfirmed}"


def _shell(words: Sequence[str]) -> str:
    return " ".join(_word(each) for each in words)


def _word(word: str) -> str:
    """A word of a command. A placeholder stays a variable; nothing else in such a word means anything to a shell."""
    return f'"{word}"' if _PLACEHOLDER.search(word) else shlex.quote(word)


def _short(unknown: Unknown) -> str:
    """What it means, without the flag that names it."""
    return unknown.meaning.partition(" (")[0]


def _plain(command_line: str) -> str:
    """Without quotes, to stand inside a message of the shell's own."""
    return command_line.replace("'", "").replace("(", " ").replace(")", "")


def terraform(plan: Plan) -> str:
    """Resources of the provider hashicorp/google."""
    blocks = [
        f"# IAM for models served in {plan.serving}; made by cpr iam plan.",
        'terraform {\n  required_providers {\n    google = {\n      source = "hashicorp/google"\n    }\n  }\n}',
    ]
    for each in plan.unknown:
        if each.placeholder == NUMBER:
            blocks.append(_block("data", "google_project", "serving", {"project_id": _string(plan.serving)}))
        else:
            description = f"{_short(each)}; see: {each.command}"
            fields = {"type": "string", "description": _string(description)}
            blocks.append(f'variable "{each.name.lower()}" {_body(fields)}')
    labels = {role.name: _snake(role.id) for role in plan.roles}
    blocks += [_role_block(role, labels[role.name]) for role in plan.roles]
    blocks += [_binding_block(each, labels) for each in plan.bindings]
    blocks += ["\n".join(f"# {each}" for each in plan.notes)] * bool(plan.notes)
    return "\n\n".join(blocks)


def _role_block(role: CustomRole, label: str) -> str:
    fields = {
        "project": _string(role.project),
        "role_id": _string(role.id),
        "title": _string(role.title),
        "permissions": "[" + ", ".join(_string(each) for each in role.permissions) + "]",
    }
    return _block("resource", "google_project_iam_custom_role", label, fields)


def _binding_block(binding: Binding, labels: Mapping[str, str]) -> str:
    role = _string(binding.role)
    if binding.custom is not None:
        role = f"google_project_iam_custom_role.{labels[binding.custom.name]}.id"
    kind, fields = _TERRAFORM_RESOURCES[binding.resource.kind](binding.resource)
    fields |= {"role": role, "member": _string(binding.member)}
    return "\n".join([*_comment(binding), _block("resource", kind, _label(binding), fields)])


def _label(binding: Binding) -> str:
    """The same in every plan that has the binding: Terraform takes what has another label for another resource."""
    label = f"{binding.who} {binding.purpose}"
    if binding.who == "caller":
        label += f" {hashlib.sha256(binding.member.encode()).hexdigest()[:8]}"
    return _snake(label)


_TERRAFORM_RESOURCES: Mapping[str, Callable[[Resource], tuple[str, dict[str, str]]]] = {
    "project": lambda on: ("google_project_iam_member", {"project": _string(on.name)}),
    "repository": lambda on: (
        "google_artifact_registry_repository_iam_member",
        {"project": _string(on.project), "location": _string(on.location), "repository": _string(on.name)},
    ),
    "bucket": lambda on: ("google_storage_bucket_iam_member", {"bucket": _string(on.name)}),
    "service account": lambda on: (
        "google_service_account_iam_member",
        {"service_account_id": _string(f"projects/{on.project}/serviceAccounts/{on.name}")},
    ),
}


def _block(keyword: str, kind: str, label: str, fields: Mapping[str, str]) -> str:
    return f'{keyword} "{kind}" "{label}" {_body(fields)}'


def _body(fields: Mapping[str, str]) -> str:
    width = max(len(name) for name in fields)
    return "{\n" + "".join(f"  {name:<{width}} = {value}\n" for name, value in fields.items()) + "}"


def _string(value: str) -> str:
    """A string of HCL, in which nothing is interpolated but our own placeholders."""
    if value in _TERRAFORM:
        return _TERRAFORM[value].strip("${}")
    parts = re.split(r"(\$\{[A-Z_]+\})", value)
    return '"' + "".join(_TERRAFORM.get(part) or _escaped(part) for part in parts) + '"'


def _escaped(part: str) -> str:
    for character, escape in (("\\", "\\\\"), ('"', '\\"'), ("\n", "\\n"), ("${", "$${"), ("%{", "%%{")):
        part = part.replace(character, escape)
    return part


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).replace("-", "_").replace(" ", "_").lower()


FORMATS: Mapping[str, Callable[[Plan], str]] = {
    "text": text,
    "gcloud": gcloud,
    "terraform": terraform,
    "json": as_json,
}
