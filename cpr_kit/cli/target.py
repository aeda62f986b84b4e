"""TARGET on the command line: a folder, an image or a URL, opened so that each is asked the same way."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cpr_kit.cli.terminal import build_display, ending, note
from cpr_kit.config import Config
from cpr_kit.contract import ContainerSpec, parse_environment
from cpr_kit.errors import LackingError

if TYPE_CHECKING:
    from cpr_kit.engine.protocol import Engine
    from cpr_kit.harness.endpoint import LocalEndpoint
    from cpr_kit.harness.target import Target


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line said about a target."""

    app: str | None = None
    """An application of the folder that is to be served in place of what its cpr.toml names."""
    engine: str | None = None
    artifacts: str | None = None
    port: int | None = None
    predict_route: str | None = None
    health_route: str | None = None
    container_port: int | None = None
    env: tuple[str, ...] = ()
    sealed: bool = False
    verbose: bool = False


@dataclass(frozen=True)
class Startable:
    """A folder that was built, or an image: what it takes to start it."""

    spec: ContainerSpec
    engine: Engine
    artifacts: str | None
    config: Config | None
    options: Options

    def endpoint(self) -> LocalEndpoint:
        from cpr_kit.harness.endpoint import LocalEndpoint

        return LocalEndpoint(
            self.spec,
            self.engine,
            artifact_uri=self.artifacts,
            host_port=self.options.port,
            sealed=self.options.sealed,
        )


def is_url(target: str) -> bool:
    return target.startswith(("http://", "https://"))


def startable(target: str, options: Options) -> Startable:
    """Choose the engine and build, if it is a folder. Raises LackingError for what is neither folder nor image."""
    from cpr_kit import serving_spec
    from cpr_kit.engine.choose import choose
    from cpr_kit.prebuilt import tf_serving

    choice = choose(options.engine)
    note(choice.reason)
    if Path(target).is_dir():
        config = serving(Config.read(Path(target).resolve()), options.app)
        if config.image.names_ports:  # else the image may say them; a build takes minutes
            known = _changed(serving_spec.of(config, config.folder.name), options)
            tf_serving.check(known, options.artifacts or config.artifact_uri)
        spec = build(config, choice.engine, tag=_passing_tag(config.folder), verbose=options.verbose)
    elif choice.engine.image(target):
        config, spec = None, ContainerSpec(image_uri=target)
        if not options.artifacts:
            note(f"no artifacts are given, so {target} must hold its model itself; if it does not: --artifacts FOLDER")
    else:
        raise LackingError(
            f'"{target}" is no folder here, and the {choice.engine.name} engine has no image of that name; '
            "build it with: cpr build DIR -t NAME, or pull it first"
        )
    artifacts = options.artifacts or (config.artifact_uri if config else None)
    changed = _changed(spec, options)
    tf_serving.check(changed, artifacts)
    return Startable(changed, choice.engine, artifacts, config, options)


def serving(config: Config, app: str | None) -> Config:
    """The project with another application, or as it is."""
    if app is None:
        return config
    model = dataclasses.replace(config.model, app=app, predictor=None, preprocessor=None, handler=None)
    return dataclasses.replace(config, model=model, image=dataclasses.replace(config.image, dockerfile=None))


def _passing_tag(folder: Path) -> str:
    """A name for what is built only to be run here: no image of the user's may lose its name to it."""
    digest = hashlib.sha256(str(folder).encode()).hexdigest()[:12]
    return f"cpr-local/{digest}:latest"


def build(
    config: Config, engine: Engine, *, tag: str | None = None, no_cache: bool = False, verbose: bool = False
) -> ContainerSpec:
    from cpr_kit.build import image

    with ending("the build was stopped; nothing of it is left"), build_display(verbose=verbose) as display:
        return image.build(config, engine, tag=tag, no_cache=no_cache, output=display)


def _changed(spec: ContainerSpec, options: Options) -> ContainerSpec:
    """The specification with what the command line says differently."""
    return dataclasses.replace(
        spec,
        env={**spec.env, **parse_environment(options.env)},
        ports=(options.container_port,) if options.container_port else spec.ports,
        predict_route=options.predict_route or spec.predict_route,
        health_route=options.health_route or spec.health_route,
    )


@contextlib.contextmanager
def opened(target: str, options: Options) -> Iterator[tuple[Target, Startable | None]]:
    """Something that answers: the server at a URL, or a container that runs for as long as this is open."""
    from cpr_kit.harness.target import Target

    if is_url(target):
        yield at_url(target, options), None
        return
    start = startable(target, options)
    with start.endpoint() as endpoint:
        yield Target.of(endpoint), start


def at_url(url: str, options: Options) -> Target:
    from cpr_kit.harness.target import Target

    return Target.at(url, predict_route=options.predict_route, health_route=options.health_route)
