"""The scorecard: whole, self-contained, the same every time, safe against what models write."""

import io
import json
import re
import subprocess
import sys
from html.parser import HTMLParser

import pytest
from rich.console import Console

from gistbench.errors import UsageError
from gistbench.report import Scorecard, render, summary_table
from gistbench.report.criteria import load_criteria
from gistbench.report.evidence import load_evidence
from gistbench.report.page.pages import html_page, markdown_page
from gistbench.report.page.scripts import page_script
from gistbench.report.scorecard import build_scorecard
from gistbench.storage import read_json
from tests.fixtures.synthetic_run import KV, WEIGHTS

HOSTILE = "<script>alert(1)</script>`|[x](http://e.com)\u202e\u0000\u200b" + "y" * 1_000_000


class Page(HTMLParser):
    """What a browser would see: elements, references, ids, text."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.tags, self.references, self.ids, self.text, self.headings = [], [], [], "", []
        self.tables, self.captions, self.unscoped = 0, 0, 0
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.tags.append(tag)
        self.references += [found[k] for k in ("src", "href", "data", "action") if k in found]
        self.ids += [found["id"]] if "id" in found else []
        self.tables += tag == "table"
        self.captions += tag == "caption"
        self.unscoped += tag == "th" and "scope" not in found
        if tag in ("h1", "h2", "h3", "h4"):
            self.headings.append(int(tag[1]))

    def handle_data(self, data):
        self.text += " " + data


def rendered(run, folder, published=None):
    return render(run.write(folder), published)


def card_of(run, folder):
    return build_scorecard(load_evidence(run.write(folder)), load_criteria())


@pytest.fixture(scope="module")
def gpu_paths(gpu_run, tmp_path_factory):
    return rendered(gpu_run, tmp_path_factory.mktemp("gpu"))


@pytest.fixture(scope="module")
def hostile_paths(gpu_run, tmp_path_factory):
    return rendered(hostile_run(gpu_run), tmp_path_factory.mktemp("hostile"))


@pytest.fixture(scope="module")
def gpu_page(gpu_paths):
    return Page(gpu_paths.html.read_text(encoding="utf-8"))


def test_the_page_needs_no_network_and_no_script_but_its_own(gpu_paths, cpu_run, tmp_path):
    for paths in (gpu_paths, rendered(cpu_run, tmp_path / "cpu")):
        text = paths.html.read_text(encoding="utf-8")
        page = Page(text)
        assert {r for r in page.references if not r.startswith(("#", "data:,"))} == set()
        assert not {"iframe", "object", "embed"} & set(page.tags)
        assert page.tags.count("script") == 1
        assert not re.search(r"https?://|url\((?!#)|@import|\bon\w+=", text)
        (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', text)
        assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'; img-src data:;")
        assert f"script-src '{page_script('scorecard.js').hash}';" in policy


def test_the_page_is_well_formed_for_readers_and_screen_readers(gpu_page):
    assert gpu_page.tables == gpu_page.captions >= 4
    assert gpu_page.unscoped == 0
    assert len(gpu_page.ids) == len(set(gpu_page.ids))
    targets = {r[1:] for r in gpu_page.references if r.startswith("#")}
    assert targets <= set(gpu_page.ids)
    assert gpu_page.headings[0] == 1
    steps = zip(gpu_page.headings, gpu_page.headings[1:], strict=False)
    assert all(later - earlier <= 1 for earlier, later in steps)


def test_the_page_says_first_what_was_decided(gpu_page):
    text = " ".join(gpu_page.text.split())
    for words in (
        "80 of 100",
        "20 + 30 + 15 + 15 + 0 + 0 = 80",
        "4 of 6 measurable (2 not measured, earning 0)",
        "Arms gist and swapped answered with weights trained on the task family niah_passkey.",
        "Arms full and none answered with the base model's weights",
        "Q4_1 weights, dequantised",
        "NOT MEASURED",
        "no task of this run asks about the whole document",
        "Wilson 91.2 % to 100.0 %, n = 40",
        "NF4 gists against bf16 full context not measured in this run",
        "gistbench run --models gist,full",
    ):
        assert words in text, words


def test_gists_that_the_base_model_read_are_told_from_answers_by_trained_weights(gpu_paths):
    from gistbench.records import RunRecord
    from gistbench.report.evidence import Evidence
    from gistbench.report.sections.fairness import fairness
    from gistbench.storage import read_json

    run = read_json(gpu_paths.html.parent / "run.json", RunRecord)
    arms = tuple(
        arm.model_copy(update={"answered_by_base": True}) if arm.name == "gist" else arm
        for arm in run.arms
    )
    lines = fairness(Evidence(run.model_copy(update={"arms": arms}), {}, {}))
    assert (
        "Arm gist answered with the base model's own weights, from gists written by weights "
        "trained on the task family niah_passkey." in lines
    )
    assert "Arm swapped answered with weights trained on the task family niah_passkey." in lines


def test_charts_follow_the_pages_colours(gpu_paths):
    text = gpu_paths.html.read_text(encoding="utf-8")
    charts = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
    assert len(charts) == 3
    for chart in charts:
        assert "var(--series-1)" in chart
        assert not re.search(r"#[0-9a-f]{6}", chart)
    assert "prefers-color-scheme: dark" in text
    assert "@media print" in text


def test_without_a_gpu_host_memory_is_shown_with_the_reason(cpu_run, tmp_path):
    card = card_of(cpu_run, tmp_path / "run")
    assert {layer.name for track in card.memory for layer in track.layers} == {"resident_bytes"}
    assert any("no NVIDIA GPU" in note for note in card.memory_notes)


def test_a_run_without_memory_readings_still_has_a_scorecard(gpu_run, tmp_path):
    folder = gpu_run.write(tmp_path / "run")
    (folder / "memory.jsonl").unlink()
    assert "No memory readings" in render(folder).html.read_text(encoding="utf-8")


def test_the_record_survives_its_file_and_feeds_the_page_alone(gpu_paths):
    paths = gpu_paths
    card = read_json(paths.json, Scorecard)
    assert Scorecard.model_validate_json(card.model_dump_json()) == card
    assert html_page(card) == paths.html.read_text(encoding="utf-8")
    assert markdown_page(card) == paths.markdown.read_text(encoding="utf-8")


def test_the_same_records_give_the_same_bytes(gpu_paths, gpu_run, tmp_path):
    two = rendered(gpu_run, tmp_path / "two")
    for name in ("html", "json", "markdown"):
        assert getattr(gpu_paths, name).read_bytes() == getattr(two, name).read_bytes()


def hostile_run(gpu_run):
    def hostile(sample):
        if sample.arm != "full" or sample.scores["exact_match"] == 1:
            return sample
        name = f"<img src=x onerror=alert(2)>{sample.index}"
        needle = f"<b>{sample.expected}</b>"
        changes = {"output": HOSTILE, "sample_id": name, "excerpt_needle": needle}
        return sample.model_copy(update={**changes, "excerpt": f"<i>\u2066{needle}" + "z" * 9000})

    def hostile_names(changes):
        return gpu_run.but(sample_change=hostile, run_changes=changes)

    base = gpu_run.record().base.model_copy(update={"name": "$a_{b}$<script>\u202e"})
    return hostile_names({"base": base, "notes": ("<script>n</script>",)})


def test_hostile_text_stays_text(hostile_paths):
    paths = hostile_paths
    text = paths.html.read_text(encoding="utf-8")
    assert len(text) < 600_000
    page = Page(text)
    assert page.tags.count("script") == 1
    assert not {"img", "i", "b1"} & set(page.tags)
    assert "<script>alert(1)</script>" in page.text
    for picture in ("⟨U+202E⟩", "⟨NUL⟩", "⟨U+200B⟩", "⟨U+2066⟩", "characters cut"):
        assert picture in page.text
    for character in "\u202e\u0000\u200b\u2066":
        assert character not in text
        assert character not in paths.markdown.read_text(encoding="utf-8")
    assert "<script>" not in paths.markdown.read_text(encoding="utf-8")


def test_the_needle_is_marked_and_long_text_says_how_much_was_cut(hostile_paths):
    text = hostile_paths.html.read_text(encoding="utf-8")
    assert re.search(r"<mark>&lt;b&gt;\d{5}&lt;/b&gt;</mark>", text)
    cut = len(HOSTILE) - 500
    assert f"{cut:,} characters cut" in text


def test_for_a_control_the_right_answers_are_what_is_wrong(gpu_run, tmp_path):
    run = gpu_run.but(hits={"gist": 40, "full": 16, "swapped": 3, "none": 0})
    paths = rendered(run, tmp_path / "run")
    card = read_json(paths.json, Scorecard)
    assert card.samples is not None
    counts = {line.label: line.text for line in card.samples.counts}
    assert counts["swapped"] == "3 of 40 right, though a control should know nothing"
    assert card.invalid
    assert card.checks[0].status == "INVALID-LEAK"
    assert "INVALID-LEAK." in paths.html.read_text(encoding="utf-8")
    assert "INVALID-LEAK" in paths.markdown.read_text(encoding="utf-8")


@pytest.mark.parametrize(("samples", "bins"), [(40, 5), (200, 10)])
def test_depth_has_five_bins_or_ten_with_n_in_each(gpu_run, tmp_path, samples, bins):
    hits = {"gist": samples, "full": 16, "swapped": 0, "none": 0}
    (table,) = card_of(gpu_run.but(num_samples=samples, hits=hits), tmp_path / "run").depth
    for row in table.rows:
        assert [cell.n for cell in row.cells] == [samples // bins] * bins
        assert all("Wilson" in cell.figure.detail for cell in row.cells)


def test_a_thinned_timeline_keeps_its_peak(gpu_run, tmp_path):
    ticks = gpu_run.memory()
    many = [t.model_copy(update={"seconds": n / 100}) for n, t in enumerate(ticks * 20)]
    spike = many[777].model_copy(update={"torch_allocated_bytes": 10**12, "arm": "gist"})
    many[777] = spike
    folder = gpu_run.write(tmp_path / "run")
    (folder / "memory.jsonl").write_text("".join(t.model_dump_json() + "\n" for t in many))
    card = build_scorecard(load_evidence(folder), load_criteria())
    track = next(track for track in card.memory if track.arm == "gist")
    assert len(track.seconds) <= 240
    assert max(v or 0 for v in track.layers[0].values) == 10**12


def test_a_published_result_stands_beside_this_one(gpu_paths, gpu_run, cpu_run, tmp_path):
    published = gpu_paths.json
    paths = rendered(cpu_run, tmp_path / "run", published)
    card = read_json(paths.json, Scorecard)
    assert card.published is not None
    assert card.published.label == "published result, n = 40"
    assert card.published.comparability == "same base model, checkpoint and version of the task"
    assert "PASS; 100.0 %" in (card.verdicts[1].published or "")
    assert "Published result, n = 40" in paths.html.read_text(encoding="utf-8")
    other = gpu_run.record().base.model_copy(update={"fingerprint": "00" * 32})
    evidence = load_evidence(cpu_run.but(run_changes={"base": other}).write(tmp_path / "other"))
    card = build_scorecard(evidence, load_criteria(), read_json(published, Scorecard))
    assert card.published is not None
    assert "another base model" in card.published.comparability


def long(sample):
    """As long as the texts of a real run: 300 characters on either side of the needle."""
    side = ("The harbour was quiet that morning, and 37 gulls circled. " * 6)[:300]
    return sample.model_copy(update={"excerpt": side + sample.excerpt_needle + side})


def test_four_hundred_samples_of_four_arms_are_all_on_a_page_that_can_be_sent(gpu_run, tmp_path):
    hits = {"gist": 380, "full": 160, "swapped": 0, "none": 0}
    paths = rendered(gpu_run.but(num_samples=400, hits=hits, sample_change=long), tmp_path / "run")
    text = paths.html.read_text(encoding="utf-8")
    assert len(text.encode()) < 1_500_000
    assert text.count('class="sample"') == 400
    assert text.count("<mark>") == 400
    assert "All 1,600 answers to all 400 prompts are here." in text


@pytest.mark.slow
def test_ten_thousand_samples_are_a_page_in_less_than_a_gigabyte(gpu_run, tmp_path):
    hits = {"gist": 9_800, "full": 4_000, "swapped": 0, "none": 0}
    run = gpu_run.but(num_samples=10_000, hits=hits, sample_change=long)
    folder = run.write(tmp_path / "run")
    code = (
        "import re, sys\n"
        "from pathlib import Path\n"
        "from gistbench.report import render\n"
        "render(Path(sys.argv[1]))\n"
        # Not getrusage, whose peak begins at that of the process that started this one.
        "status = Path('/proc/self/status').read_text()\n"
        "print(re.search(r'VmHWM:\\s+(\\d+) kB', status)[1])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, folder], check=True, capture_output=True, text=True
    )
    assert int(done.stdout) < 1_000_000  # KiB
    text = (folder / "scorecard.html").read_text(encoding="utf-8")
    assert len(text.encode()) < 1_500_000
    card = read_json(folder / "scorecard.json", Scorecard)
    assert card.samples is not None
    counts = {line.label: line.text for line in card.samples.counts}
    assert counts["gist"] == "200 of 10,000 not exactly right"  # and all of them are here
    assert " of the 6,000 are here" in counts["full"]
    assert card.samples.notes[0].startswith("1,440 of 40,000 answers are here, to 360 of 10,000")


def test_how_many_contexts_a_card_could_hold_is_arithmetic_and_says_so(gpu_run, tmp_path):
    costs = {arm.name: arm.cost["contexts_in_budget"] for arm in card_of(gpu_run, tmp_path).arms}
    left = 24 * 2**30 - WEIGHTS
    assert costs["gist"].value == left // (10 * KV)
    assert costs["full"].value == left // (4925 * KV)
    assert "by arithmetic" in costs["gist"].detail
    assert costs["none"].not_measured == costs["swapped"].not_measured
    assert costs["swapped"].not_measured == "a control: it judges other arms"


def test_gist_and_full_are_compared_prompt_by_prompt(gpu_run, tmp_path):
    (row,) = card_of(gpu_run, tmp_path / "run").paired
    assert (row.both, row.only_first, row.only_second, row.neither) == (16, 24, 0, 0)
    assert row.p_value == pytest.approx(2 * 0.5**24)


def test_a_run_of_full_alone_measures_no_criterion_and_makes_no_fuss(gpu_run, tmp_path):
    paths = rendered(gpu_run.but(hits={"full": 16}), tmp_path / "run")
    card = read_json(paths.json, Scorecard)
    assert card.score.earned == 0
    assert {verdict.outcome for verdict in card.verdicts} == {"NOT_MEASURED"}
    assert {check.status for check in card.checks} == {"OK"}


@pytest.mark.parametrize(
    ("file", "change", "problem"),
    [
        ("run.json", lambda text: text[:300], "run.json is not valid JSON"),
        ("run.json", lambda text: "{}", "run.json is not a RunRecord"),
        ("run.json", lambda text: text.replace('"schema_version": 1', '"schema_version": 9'), "9"),
        ("samples.jsonl", lambda text: text[:-40], "samples.jsonl line 160"),
        ("samples.jsonl", lambda text: text + text.splitlines()[0], "stands there twice"),
        ("samples.jsonl", lambda text: text.replace('"arm":"none"', '"arm":"x"'), "does not list"),
        (
            "samples.jsonl",
            lambda text: text.replace('"exact_match":1.0', '"exact_match":2'),
            "0 or 1",
        ),
        ("memory.jsonl", lambda text: "\x00" + text, "memory.jsonl line 1"),
        ("samples.jsonl", None, "samples.jsonl cannot be read"),
        ("run.json", None, "run.json cannot be read"),
    ],
)
def test_a_damaged_run_is_one_sentence(gpu_run, tmp_path, file, change, problem):
    folder = gpu_run.write(tmp_path / "run")
    path = folder / file
    if change is None:
        path.unlink()
    else:
        path.write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8")
    with pytest.raises(UsageError, match=problem) as caught:
        render(folder)
    assert "\n" not in str(caught.value)
    assert not (folder / "scorecard.html").exists()


def test_a_published_card_of_another_gistbench_is_shown_without_what_is_unknown(
    gpu_paths, cpu_run, tmp_path
):
    older = json.loads(gpu_paths.json.read_text(encoding="utf-8")) | {"failures": []}
    del older["samples"], older["latency"]
    path = tmp_path / "older.json"
    path.write_text(json.dumps(older), encoding="utf-8")
    text = rendered(cpu_run, tmp_path / "run", path).html.read_text(encoding="utf-8")
    assert "Published result, n = 40" in text


def test_a_published_file_that_is_no_scorecard_is_one_sentence(cpu_run, tmp_path):
    folder = cpu_run.write(tmp_path / "run")
    with pytest.raises(UsageError, match="is not a Scorecard"):
        render(folder, folder / "run.json")


def test_the_markdown_has_whole_tables(gpu_paths):
    lines = gpu_paths.markdown.read_text(encoding="utf-8").splitlines()
    widths = {}
    for number, line in enumerate(lines):
        if line.startswith("|"):
            start = widths.get(number - 1, (number, line.count("|")))
            assert line.count("|") == start[1], line
            widths[number] = start
    assert len({start for start, _ in widths.values()}) >= 7


def test_the_terminal_table_names_arms_and_verdicts(gpu_run, tmp_path):
    card = card_of(gpu_run, tmp_path / "run")
    console = Console(width=140, record=True, file=io.StringIO())
    console.print(summary_table(card))
    text = console.export_text()
    for words in ("gist", "Wilson 91.2 % to 100.0 %, n = 40", "0.44 MiB", "Throughput", "PASS"):
        assert words in text
    assert "Score 80 of 100" in text


def test_the_terminal_table_is_safe_against_markup(gpu_run, tmp_path):
    base = gpu_run.record().base.model_copy(update={"name": "[red]x[/blue]\x1b[31m"})
    card = card_of(gpu_run.but(run_changes={"base": base}), tmp_path / "run")
    console = Console(width=140, record=True, file=io.StringIO())
    console.print(summary_table(card))
    assert "[red]x[/blue]⟨ESC⟩[31m" in console.export_text()


def test_reports_never_load_torch():
    code = (
        "import sys, pkgutil, importlib, gistbench.report as r\n"
        "[importlib.import_module(m.name) "
        "for m in pkgutil.walk_packages(r.__path__, 'gistbench.report.')]\n"
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_json_is_plain_json(gpu_paths):
    text = gpu_paths.json.read_text(encoding="utf-8")
    assert json.loads(text)["score"]["earned"] == 80
    assert "NaN" not in text
    assert "Infinity" not in text
