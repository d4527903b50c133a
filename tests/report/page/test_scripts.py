"""A page's script is allowed by its hash, and by nothing else."""

import base64
import hashlib

import pytest

from gistbench.report.page import scripts
from gistbench.report.page.scripts import page_script


def test_the_hash_is_that_of_the_text_between_the_tags():
    script = page_script("scorecard.js")
    digest = base64.b64encode(hashlib.sha256(str(script.text).encode()).digest()).decode()
    assert script.hash == f"sha256-{digest}"


def test_a_script_that_would_end_its_own_element_is_a_bug(tmp_path, monkeypatch):
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates" / "bad.js").write_text("const end = '</SCRIPT>';")
    monkeypatch.setattr(scripts.resources, "files", lambda package: tmp_path)
    with pytest.raises(ValueError, match="would end the element"):
        page_script("bad.js")
