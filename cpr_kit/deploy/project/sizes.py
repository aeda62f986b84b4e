"""The sizes of machines without GPUs, by family, as Compute Engine's "Machine families resource" and Google Kubernetes
Engine's "TPUs" have them. Google adds some, so what is not here may be there all the same.
"""

from __future__ import annotations

from collections.abc import Mapping

_N1 = (2, 4, 8, 16, 32, 64, 96)
_N2 = (2, 4, 8, 16, 32, 48, 64, 80, 96)
_N4 = (2, 4, 8, 16, 32, 48, 64, 80)
_C2D = (2, 4, 8, 16, 32, 56, 112)
_C3 = (4, 8, 22, 44, 88, 176)
_C3D = (4, 8, 16, 30, 60, 90, 180, 360)
_C4 = (2, 4, 8, 16, 24, 32, 48, 96, 144, 192, 288)

CORES: Mapping[str, Mapping[str, tuple[int, ...]]] = {
    "e2": {"standard": (2, 4, 8, 16, 32), "highmem": (2, 4, 8, 16), "highcpu": (2, 4, 8, 16, 32)},
    "n1": {"standard": _N1, "highmem": _N1, "highcpu": _N1},
    "n2": {"standard": (*_N2, 128), "highmem": (*_N2, 128), "highcpu": _N2},
    "n2d": {"standard": (*_N2, 128, 224), "highmem": _N2, "highcpu": (*_N2, 128, 224)},
    "n4": {"standard": _N4, "highmem": _N4, "highcpu": _N4},
    "c2": {"standard": (4, 8, 16, 30, 60)},
    "c2d": {"standard": _C2D, "highmem": _C2D, "highcpu": _C2D},
    "c3": {"standard": _C3, "highmem": _C3, "highcpu": _C3},
    "c3d": {"standard": _C3D, "highmem": _C3D, "highcpu": _C3D},
    "c4": {"standard": _C4, "highmem": _C4, "highcpu": _C4},
    "m1": {"ultramem": (40, 80, 160), "megamem": (96,)},
    "m3": {"ultramem": (32, 64, 128), "megamem": (64, 128)},
    "t2d": {"standard": (1, 2, 4, 8, 16, 32, 48, 60)},
}
"""vCPUs by kind of machine: `n1-standard-4` has 4."""
_TPUS: Mapping[str, tuple[str, ...]] = {
    "ct5lp": ("ct5lp-hightpu-1t", "ct5lp-hightpu-4t", "ct5lp-hightpu-8t"),
    "ct6e": ("ct6e-standard-1t", "ct6e-standard-4t", "ct6e-standard-8t"),
    "tpu7x": ("tpu7x-standard-4t",),
}


def of(family: str) -> tuple[str, ...]:
    """All machines of a family; none where the family is not known.

    >>> of("c2")
    ('c2-standard-4', 'c2-standard-8', 'c2-standard-16', 'c2-standard-30', 'c2-standard-60')
    """
    kinds = CORES.get(family, {})
    return _TPUS.get(family) or tuple(f"{family}-{kind}-{cores}" for kind, many in kinds.items() for cores in many)
