"""Downloads the images that the domain classifier was trained on, as listed in tools/training/domains.jsonl.

    python -m tools.training.collect FOLDER

The images belong to their authors and are never part of this repository. Each one is downloaded from its own repository at
the listed commit. If it is gone, it is skipped with a message.
"""

import argparse
import json
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

LIST = Path(__file__).parent / "domains.jsonl"
SOURCE = "https://raw.githubusercontent.com"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--source", default=SOURCE, help="base URL; files are at SOURCE/OWNER/NAME/COMMIT/PATH")
    options = parser.parse_args()
    missing = 0
    for line in LIST.read_text().splitlines():
        entry = json.loads(line)
        target = options.folder / entry["file"]
        if target.exists():
            continue
        try:
            content = fetch(entry, options.source)
        except (urllib.error.URLError, OSError) as error:
            print(f"{entry['repo']} {entry['path']}: {error}")
            missing += 1
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_suffix(target.suffix + ".part")
        temporary.write_bytes(content)
        temporary.replace(target)
    print(f"{missing} missing")


def fetch(entry: dict[str, str], source: str) -> bytes:
    """Downloads one listed file and returns its bytes."""
    path = urllib.parse.quote(f"{entry['repo']}/{entry['commit']}/{entry['path']}")
    with urllib.request.urlopen(f"{source}/{path}", timeout=60) as answer:
        return answer.read()


if __name__ == "__main__":
    main()
