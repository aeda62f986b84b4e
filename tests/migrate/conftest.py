import pytest
from upstream_projects import write


@pytest.fixture
def folder(tmp_path):
    """folder({"predictor.py": "..."}) -> a folder with these files, alone among its siblings."""
    return lambda files: write(tmp_path / "around" / "project", files)
