"""Measures what techniques of the GPU profile are worth, on a CPU: the same code, scaled down.

    python benchmarks/proxy.py [--seconds 60 | --steps 300] [--repeats 3] [--folder FOLDER] [NAME ...]

It trains nanogpt/train.py with AUTORESEARCH_PROFILE=h100 and the sizes in `SCALE`, as it is and with one
technique changed (`VARIANTS`), and `plain`: without tables, counts and copies, with the settings of
karpathy/autoresearch's first train.py. Each training takes the same CPU seconds of one thread, or with
--steps the same number of steps: then small differences are not lost in how busy the machine is. It prints a
table row for each: mean val_bpb (lower is better), standard deviation, trainings, steps, milliseconds of the
CPU that a step takes, counting included, and tokens.

The text is English prose: the paragraphs of the HTML pages in the Debian packages `PACKAGES`, which are
downloaded with `apt-get download` into FOLDER (the user's cache folder), at most `CUT` characters of a page.
A page is in one split only. Ratios are those of an H100 in 300 s as far as they can be: tokens a row (256) to
vocabulary (1,024) are 1:4, as 2,048 to 8,192; nearly as much text is counted as is trained on.
"""

from __future__ import annotations

import argparse
import hashlib
import html.parser
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "nanogpt"))

PACKAGES = (
    "anarchism", "apache2-doc", "debian-policy", "debian-reference-en", "developers-reference", "git-doc",
    "postgresql-doc-15", "python3.11-doc",
)  # fmt: skip
"""Of Debian 12. Other releases have other versions, with other text: do not compare their numbers."""
CUT = 2000
VOCABULARY, SEQUENCE = 1024, 256
SCALE = {"DEPTH": "4", "WIDTH": "64", "HEAD_DIM": "32", "ROWS": "8", "NGRAM_ROWS": "16384"}
A_SECOND, A_STEP = 10_000, 1_750
"""Tokens to count for each second or step of a budget: 0.86 of those that are trained on, as on an H100."""
PLAIN = {
    "NGRAM_TABLES": "0", "COUNT_ORDER": "0", "WINDOWS": '"SSSL"', "WINDOW_SHARE": "0.5",
    "ROPE_BASE": "10000.0", "QK_SCALE": "1.0", "EMBED_LR": "0.6", "HEAD_LR": "0.004", "AGAIN": "0.1",
    "SCALE": "1.0", "HEAD_DECAY": "0.0", "EMBED_DECAY": "0.0", "VALUE_DECAY": "0.0", "WARMDOWN": "0.5",
    "FINAL_LR": "0.0",
}  # fmt: skip
VARIANTS: dict[str, dict[str, str]] = {
    "ours": {},
    "plain": PLAIN,
    "plain, rates halved": PLAIN | {"MATRIX_LR": "0.02", "EMBED_LR": "0.3", "HEAD_LR": "0.002"},
    "plain, rates doubled": PLAIN | {"MATRIX_LR": "0.08", "EMBED_LR": "1.2", "HEAD_LR": "0.008"},
    "plain + tables": PLAIN | {"NGRAM_TABLES": "2"},
    "plain + counts and copies": PLAIN | {"COUNT_ORDER": "4"},
    "no counts, no copies": {"COUNT_ORDER": "0"},
    "no copies": {"COPY_LENGTH": "0"},
    "no tables": {"NGRAM_TABLES": "0"},
    "counts of all contexts": {"COUNT_LEAST": "1"},
    "counts up to trigrams": {"COUNT_ORDER": "3"},
}


class Paragraphs(html.parser.HTMLParser):
    """Collects the paragraphs of a page, without code, tables and navigation."""

    LEFT_OUT = frozenset(("script", "style", "pre", "head", "nav", "footer", "table"))

    def __init__(self) -> None:
        super().__init__()
        self.outside = self.inside = 0
        self.words: list[str] = []
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.outside += tag in self.LEFT_OUT
        if tag == "p":
            self.inside += 1
            self.words = []

    def handle_endtag(self, tag: str) -> None:
        if tag in self.LEFT_OUT:
            self.outside = max(0, self.outside - 1)
        elif tag == "p" and self.inside:
            self.inside -= 1
            text = " ".join("".join(self.words).split())
            self.found += [text] if len(text) > 40 else []

    def handle_data(self, data: str) -> None:
        if self.inside and not self.outside:
            self.words.append(data)


def pages(folder: Path) -> Iterator[str]:
    """Give the text of each page of the packages, downloading what is not in the folder yet."""
    seen: set[str] = set()
    for package in PACKAGES:
        place = folder / package
        if not place.exists():
            with tempfile.TemporaryDirectory(dir=folder) as draft:
                subprocess.run(["apt-get", "download", "-q", package], cwd=draft, check=True)
                (archive,) = Path(draft).glob("*.deb")
                subprocess.run(["dpkg-deb", "-x", archive, Path(draft) / "files"], check=True)
                (Path(draft) / "files").rename(place)
        for path in sorted(p for p in place.rglob("*") if p.name.endswith((".html", ".html.en"))):
            if path.is_file():
                page = Paragraphs()
                page.feed(path.read_text("utf-8", "replace"))
                fresh = [text for text in dict.fromkeys(page.found) if text not in seen]
                seen.update(fresh)
                text = "\n".join(fresh)[:CUT]
                if len(text) > 500:
                    yield text


def prepared(folder: Path) -> Path:
    """Return a cache folder for trainers with this text, after preparing it if it is not there yet."""
    from corpus import Corpus

    import prepare

    folder.mkdir(parents=True, exist_ok=True)
    cache = folder / "prepared"
    parts = prepare._parts(cache / f"sympy-v{prepare.FORMAT}")  # a name that trainers know, to load it
    if not prepare._complete(parts):
        splits: dict[str, list[str]] = {split: [] for split in prepare.SPLITS}
        for text in pages(folder):
            share = hashlib.sha256(text.encode()).digest()[0] / 256
            split = (
                "val" if share < 0.05 else "tune" if share < 0.07 else "hidden" if share < 0.08 else "train"
            )
            splits[split].append(text)
        corpus = Corpus(
            "proxy", VOCABULARY, SEQUENCE, True, {}, lambda split, downloads, say: splits[split], lambda: []
        )
        cache.mkdir(exist_ok=True)
        prepare._build(corpus, parts, print)
    return cache


class Result(NamedTuple):
    """What one training gave."""

    val_bpb: float
    steps: int
    seconds: float
    """Of the CPU, without the first steps (clock.py)."""
    tokens: float
    """Millions."""


def trained(cache: Path, changes: dict[str, str], seconds: float, steps: int, seed: int) -> Result:
    """Train a copy of train.py with other values for some CPU seconds, or for some steps if not 0."""
    environment = {
        "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "AUTORESEARCH_CLOCK": "cpu",
        "MALLOC_MMAP_THRESHOLD_": "1073741824", "MALLOC_TRIM_THRESHOLD_": "2073741824",
        "AUTORESEARCH_PROFILE": "h100", "AUTORESEARCH_CACHE": str(cache), "AUTORESEARCH_DATA": "sympy",
        "AUTORESEARCH_BUDGET_S": f"{seconds:g}", "AUTORESEARCH_SEED": str(seed),
        "AUTORESEARCH_MAX_STEPS": str(steps),
    }  # fmt: skip
    counted = {"COUNT_TOKENS": str(A_STEP * steps or round(A_SECOND * seconds))}
    with tempfile.TemporaryDirectory() as copy:
        shutil.copytree(ROOT / "nanogpt", copy, dirs_exist_ok=True)
        script = Path(copy) / "train.py"
        source = script.read_text()
        for name, value in (SCALE | counted | changes).items():
            # The last assignment is the one for a GPU, where there are two.
            places = list(re.finditer(rf"^(?:    )?{name} = ([^#\n]+?)(?=  #|\n)", source, re.M))
            assert places, name
            source = source[: places[-1].start(1)] + value + source[places[-1].end(1) :]
        script.write_text(source)
        done = subprocess.run(
            [sys.executable, str(script)], env=os.environ | environment, capture_output=True, text=True
        )
    found = dict(re.findall(r"^(\w+): +(\S+)$", done.stdout, re.MULTILINE))
    if done.returncode or "val_bpb" not in found:
        sys.exit(f"the training failed: {done.stderr[-500:]}")
    return Result(
        float(found["val_bpb"]), int(found["num_steps"]),
        float(found["training_seconds"]), float(found["total_tokens_M"]),
    )  # fmt: skip


def main() -> None:
    """Measure the rows that the command line names."""
    import platformdirs

    default = Path(platformdirs.user_cache_dir("autoresearch-tui")) / "proxy"
    parser = argparse.ArgumentParser(description="Measure techniques of the GPU profile on a CPU.")
    parser.add_argument(
        "names", nargs="*", help=f"rows to measure, of: {', '.join(VARIANTS)}; all without names"
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="CPU seconds of a training (60)")
    parser.add_argument("--steps", type=int, default=0, help="steps of a training, instead of seconds")
    parser.add_argument("--repeats", type=int, default=3, help="trainings a row, each with another seed (3)")
    parser.add_argument("--folder", type=Path, default=default, help="where packages and data are kept")
    options = parser.parse_args()
    cache = prepared(options.folder)
    print("| | val_bpb | sd | trainings | steps | ms a step | M tokens |\n|---|---|---|---|---|---|---|")
    for name in options.names or VARIANTS:
        seeds = range(1337, 1337 + options.repeats)
        show(name, [trained(cache, VARIANTS[name], options.seconds, options.steps, seed) for seed in seeds])


def show(name: str, results: list[Result]) -> None:
    """Print the table row of some trainings with the same values."""
    values, steps, seconds, tokens = zip(*results, strict=True)
    spread = f"{statistics.stdev(values):.4f}" if len(values) > 1 else ""
    print(
        f"| {name} | {statistics.mean(values):.4f} | {spread} | {len(values)} | {statistics.mean(steps):.0f} "
        f"| {1000 * sum(seconds) / sum(steps):.0f} | {statistics.mean(tokens):.2f} |",
        flush=True,
    )


if __name__ == "__main__":
    main()
