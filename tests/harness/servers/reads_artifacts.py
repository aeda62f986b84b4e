import os
from pathlib import Path

from wire import Server, serve


class Reading(Server):
    """What it finds under AIP_STORAGE_URI, and whether it could have written there."""

    def answer(self, request):
        folder = Path(os.environ["AIP_STORAGE_URI"])
        files = {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}
        try:
            (folder / "written").touch()
        except OSError as error:
            files["error"] = error.strerror
        self.reply(200, {"predictions": [str(folder), files]})


serve(Reading)
