"""`cpr iam plan`: who needs which right where."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from cpr_kit.cli import options, terminal
from cpr_kit.errors import UsageError

if TYPE_CHECKING:
    from cpr_kit.deploy.iam.topology import Topology

_FORMATS = ("text", "gcloud", "terraform", "json")
_KINDS = ("public", "dedicated", "psc", "psa")


@click.group("iam")
def command() -> None:
    """Rights that models, their callers and their deployers need.

    \b
    Example:
      cpr iam plan --serving models-prod --caller app@shop-prod --json
    """


@command.command("plan")
@click.option("--serving", required=True, metavar="PROJECT", help="The project that models are served in.")
@click.option("--serving-number", metavar="N", help="Its number; default: looked up, where credentials are here.")
@click.option(
    "--caller", "callers", multiple=True, metavar="MEMBER", help="Who sends requests, as NAME@PROJECT; may be repeated."
)
@click.option(
    "--kind", type=click.Choice(_KINDS), default="public", show_default=True, help="Of endpoint that callers ask."
)
@click.option("--image-project", metavar="PROJECT", help="The project of the image's repository.")
@click.option("--repository", metavar="REGION/NAME", help="The image's repository; the image's own name will do.")
@click.option("--run-as", metavar="NAME@PROJECT", help="The service account that the container runs as.")
@click.option("--artifacts-project", metavar="PROJECT", help="The project of the artifacts' bucket.")
@click.option("--artifacts", metavar="gs://BUCKET", help="Where the artifacts lie.")
@click.option("--staging", metavar="gs://BUCKET", help="The serving project's bucket that cpr up copies them to.")
@click.option("--feature-store", metavar="PROJECT", help="The project of a feature store that the container reads.")
@click.option(
    "--legacy-feature-store", is_flag=True, help="It is one of the older kind, with entity types and not with views."
)
@click.option("--deployer", metavar="MEMBER", help="Who runs cpr push and cpr up, as user:EMAIL.")
@click.option("--no-lookup", is_flag=True, help="Ask Google nothing; a number that is not given stays a placeholder.")
@click.option("--format", "form", type=click.Choice(_FORMATS), help="[default: text]")
@options.json_flag
def plan(form: str | None, no_lookup: bool, as_json: bool, **values: Any) -> None:
    """Print the fewest rights that are needed, and what each is for.

    Everything is in the serving project that is not said to be elsewhere. MEMBER is user:EMAIL,
    group:EMAIL, serviceAccount:EMAIL, or NAME@PROJECT for a service account. Nothing is changed:
    --format gcloud prints a script, --format terraform a file.

    \b
    Example:
      cpr iam plan --serving models-prod --caller app@shop-prod --image-project images-prod
    """
    import dataclasses

    from cpr_kit.deploy.iam import number, plan, render, topology

    if as_json and form not in (None, "json"):
        raise UsageError(f"--json prints JSON, and --format {form} does not; leave one of them out")
    asked = _topology(**values)
    made = plan.make(asked)
    if asked.number is None and not no_lookup and any(each.placeholder == topology.NUMBER for each in made.unknown):
        found, why = number.look_up(asked.serving)
        if found is None:
            terminal.note(f"the number of {asked.serving} stays a placeholder, for it could not be looked up: {why}")
        made = plan.make(dataclasses.replace(asked, number=found))
    click.echo(render.FORMATS["json" if as_json else form or "text"](made))


def _topology(
    *,
    serving: str,
    serving_number: str | None,
    callers: tuple[str, ...],
    kind: Any,
    image_project: str | None,
    repository: str | None,
    run_as: str | None,
    artifacts_project: str | None,
    artifacts: str | None,
    staging: str | None,
    feature_store: str | None,
    legacy_feature_store: bool,
    deployer: str | None,
) -> Topology:
    """The flags, each checked under its own name. Raises UsageError."""
    from cpr_kit.deploy.iam import names
    from cpr_kit.deploy.iam.topology import Topology

    if legacy_feature_store and feature_store is None:
        raise UsageError("--legacy-feature-store says of which kind --feature-store PROJECT is, which is missing")
    named = None if repository is None else names.repository(repository, "--repository")
    if named is not None and named.project and image_project not in (None, named.project):
        raise UsageError(
            f"--repository is in {named.project}, and --image-project is {image_project}; give one of them"
        )
    images = image_project or (named.project if named is not None else "") or None
    elsewhere = None if artifacts_project is None else names.project(artifacts_project, "--artifacts-project")
    return Topology(
        serving=names.project(serving, "--serving"),
        number=None if serving_number is None else names.number(serving_number, "--serving-number"),
        callers=tuple(dict.fromkeys(names.member(each, "--caller") for each in callers)),
        kind=kind,
        image_project=None if images is None else names.project(images, "--image-project"),
        repository=named,
        run_as=None if run_as is None else names.account(run_as, "--run-as"),
        artifacts_project=elsewhere,
        artifacts=None if artifacts is None else names.bucket(artifacts, "--artifacts"),
        staging=None if staging is None else names.bucket(staging, "--staging"),
        feature_store=None if feature_store is None else names.project(feature_store, "--feature-store"),
        legacy_feature_store=legacy_feature_store,
        deployer=None if deployer is None else names.member(deployer, "--deployer"),
    )
