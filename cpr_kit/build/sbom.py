"""A software bill of materials (CycloneDX, JSON) of an image: what is in it, by its files. Nothing of it is run.

The same image gives the same bytes: there is no serial number and no time in it.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cpr_kit.build import inventory
from cpr_kit.build.inventory import Distribution, Inventory
from cpr_kit.build.requirements import normalised
from cpr_kit.engine.protocol import Engine, Image
from cpr_kit.errors import ConfigError, LackingError, MissingExtra
from cpr_kit.version import __version__

if TYPE_CHECKING:
    from cyclonedx.model.component import Component

EXTRA = "sbom"


def check(path: Path) -> None:
    """Before a build: raises MissingExtra without the generator, ConfigError where nothing can be written."""
    if importlib.util.find_spec("cyclonedx") is None:
        raise MissingExtra("cyclonedx-python-lib", EXTRA)
    if not path.absolute().parent.is_dir():
        raise ConfigError(f"{path} cannot be written: there is no folder {path.absolute().parent}; make it first")


def write(path: Path, engine: Engine, reference: str, *, lock: Path | None = None) -> int:
    """Write the image's bill; how many components it has. `lock` names the hashes of what was installed."""
    image = engine.image(reference)
    if image is None:
        raise LackingError(f"{engine.name} has no image {reference}; build it first: cpr build")
    locked = lock.read_text("utf-8") if lock else ""
    found = inventory.read(engine.files(reference, inventory.wanted), locked)
    bill = text(found, image)
    try:
        path.write_text(bill, "utf-8", newline="\n")
    except OSError as error:
        raise LackingError(f"{path} cannot be written: {error.strerror}; name another file") from error
    return len(json.loads(bill).get("components", ()))


def text(found: Inventory, image: Image) -> str:
    """The bill as JSON."""
    from cyclonedx.model.bom import Bom
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.output.json import JsonV1Dot6

    kit = Component(name="cpr-kit", version=__version__, type=ComponentType.APPLICATION, bom_ref="tool:cpr-kit")
    root = Component(
        name=image.reference, version=image.id, type=ComponentType.CONTAINER, bom_ref="image", properties=_facts(image)
    )
    bill = Bom()
    bill.metadata.component = root
    bill.metadata.tools.components.add(kit)
    components = [_distribution(each) for each in found.distributions]
    packages, others = list(_packages(found)), list(_others(found))
    bill.components.update([*components, *packages, *others])
    pairs = list(zip(found.distributions, components, strict=True))
    by_name = {normalised(each.name): made for each, made in sorted(pairs, key=_is_seen_first)}
    for each, made in pairs:
        bill.register_dependency(made, [by_name[name] for name in each.needs if name in by_name])
    needed = {name for each in found.distributions for name in each.needs}
    top = [made for made in components if normalised(made.name) not in needed]
    bill.register_dependency(root, [*top, *packages, *others])
    table = json.loads(JsonV1Dot6(bill).output_as_string())
    # What the library makes up at each run: a number, a time, and the order of places. None is required.
    table.pop("serialNumber", None)
    table["metadata"].pop("timestamp", None)
    for part in table.get("components", ()):
        part.get("evidence", {}).get("occurrences", []).sort(key=lambda place: place["location"])
    return json.dumps(table, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def _is_seen_first(pair: tuple[Distribution, Component]) -> bool:
    """Whether it is in the image's virtual environment: of two versions Python finds that one."""
    return any(path.startswith("/opt/") for path in pair[0].paths)


def _facts(image: Image) -> list[Any]:
    from cyclonedx.model import Property

    facts = {"platform": image.platform}
    return [Property(name=f"cpr-kit:image:{name}", value=value) for name, value in facts.items() if value]


def _distribution(each: Distribution) -> Component:
    from cyclonedx.model import HashAlgorithm, HashType, Property
    from cyclonedx.model.component import Component
    from cyclonedx.model.component_evidence import ComponentEvidence, Occurrence
    from packageurl import PackageURL

    purl = PackageURL(type="pypi", name=normalised(each.name), version=each.version)
    # A lock names every file of a version, for all platforms; which one was installed is known if there is but one.
    certain = each.hashes if len(each.hashes) == 1 else ()
    return Component(
        name=each.name,
        version=each.version,
        purl=purl,
        bom_ref=purl.to_string(),
        licenses=_licences(each.licences),
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=digest) for digest in certain],
        properties=[Property(name="cpr-kit:lock:sha256", value=digest) for digest in each.hashes if not certain],
        evidence=ComponentEvidence(occurrences=[Occurrence(location=path) for path in each.paths]),
    )


def _licences(names: Iterable[str]) -> list[Any]:
    """As SPDX where the words are SPDX's. An expression stands alone, as the format asks."""
    from cyclonedx.contrib.license.factories import LicenseFactory
    from cyclonedx.model.license import LicenseExpression

    made = [LicenseFactory().make_from_string(name) for name in names]
    expressions = [licence for licence in made if isinstance(licence, LicenseExpression)]
    return expressions[:1] or made


def _others(found: Inventory) -> Iterator[Component]:
    from cyclonedx.model.component import Component, ComponentType

    if found.python:
        yield Component(name="python", version=found.python, type=ComponentType.PLATFORM, bom_ref="python")
    if name := found.system.get("ID"):
        version = found.system.get("VERSION_ID")
        yield Component(name=name, version=version, type=ComponentType.OPERATING_SYSTEM, bom_ref="operating-system")


def _packages(found: Inventory) -> Iterator[Component]:
    from cyclonedx.model.component import Component
    from packageurl import PackageURL

    name, version = found.system.get("ID", ""), found.system.get("VERSION_ID", "")
    for package in found.packages:
        qualifiers = {"arch": package.architecture, **({"distro": f"{name}-{version}"} if version else {})}
        purl = PackageURL(
            type="deb", namespace=name or "debian", name=package.name, version=package.version, qualifiers=qualifiers
        )
        yield Component(name=package.name, version=package.version, purl=purl, bom_ref=purl.to_string())
