"""The digest of a folder's code, as a build would write it into the image's label, without a build."""

from __future__ import annotations

from cpr_kit.build import context
from cpr_kit.build.source import Source
from cpr_kit.config import Config
from cpr_kit.engine.manifest import tree_digest
from cpr_kit.engine.reaper import temporary_folder
from cpr_kit.errors import CprError
from cpr_kit.serving_spec import has_own_server
from cpr_kit.source_state import SourceState


def read(config: Config) -> SourceState | None:
    """None where there is nothing to compare: images of a Dockerfile of one's own, foreign ones, and no code here."""
    model = config.model
    if has_own_server(config) or not any((model.predictor, model.handler, model.app)):
        return None
    try:
        source = Source.read(config)
        with temporary_folder("cpr-state-") as folder:
            code = context.code(source, folder)
            # Copies have other times than the files that they are of.
            written = {
                path.relative_to(code).as_posix(): (config.folder / path.relative_to(code)).lstat().st_mtime
                for path in code.rglob("*")
                if not path.is_dir() or path.is_symlink()
            }
            return SourceState(digest=f"sha256:{tree_digest(code)}", written=written)
    except (CprError, OSError) as error:
        return SourceState(unread=str(error))
