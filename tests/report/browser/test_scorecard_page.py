"""The scorecard in a real browser: quiet, whole, switchable, accessible, and deaf to its data."""

import pytest
from axe_playwright_python.sync_playwright import Axe

from gistbench.report import render
from tests.fixtures.ladder_run import LadderRun
from tests.fixtures.synthetic_run import SyntheticRun
from tests.report.browser.conftest import DESKTOP, PHONE

HOSTILE = (
    "<script>document.title='owned'</script><img src=x onerror=\"alert(1)\">"
    "<svg onload=alert(2)></details></dl></section>\u202egnp.exe\u2066\u0000\x1b[31m\u200b"
)

OPEN = "document.querySelectorAll('details').forEach((d) => { d.open = true })"
# Minutes would go into samples that one template makes, and charts that are hidden from axe.
FEW_AND_OPEN = (
    "document.querySelectorAll('.sample:nth-of-type(n+3), svg').forEach((e) => e.remove());" + OPEN
)


def disputed(sample):
    """One answer that is right only loosely."""
    if (sample.arm, sample.index) != ("full", 3):
        return sample
    return sample.model_copy(update={"scores": {"exact_match": 0.0, "contains": 1.0}})


def hostile(sample):
    huge = "y" * 1_000_000 if sample.index == 1 else ""
    return sample.model_copy(
        update={
            "output": HOSTILE + huge,
            "expected": HOSTILE,
            "sample_id": f"{HOSTILE}{sample.index}",
            "excerpt": f"{HOSTILE} x {sample.excerpt_needle} {HOSTILE}{huge}",
        }
    )


ONE_LENGTH = SyntheticRun(
    sample_change=disputed, hits={"gist": 37, "full": 16, "swapped": 0, "none": 0}
)
LENGTHS = LadderRun(
    tasks=("niah_passkey", "niah_update"),
    lengths=(1024, 512),
    arms=("gist", "full", "full-tuned", "swapped", "none"),
    num_samples=20,
)
LADDER = LadderRun(
    tasks=("niah_passkey", "niah_update", "niah_absent", "document_topic"),
    arms=("gist", "full", "full-tuned", "truncate-10", "truncate-64", "rag-10", "swapped", "none"),
    num_samples=8,
)
HOSTILE_RUN = SyntheticRun(
    sample_change=hostile,
    run_changes={"notes": (HOSTILE,), "command": HOSTILE},
)
RUNS = {"one length": ONE_LENGTH, "lengths": LENGTHS, "ladder": LADDER, "hostile": HOSTILE_RUN}


def shown(page, selector):
    return page.locator(selector).locator("visible=true").count()


@pytest.fixture(scope="module")
def beside_published(tmp_path_factory):
    """The page with most columns: a published result stands beside the run's own."""
    published = render(ONE_LENGTH.write(tmp_path_factory.mktemp("published"))).json
    return render(LADDER.write(tmp_path_factory.mktemp("beside")), published).html


def choose(page, **values):
    for name, value in values.items():
        page.locator(f"#filters [name={name}]").select_option(value)


@pytest.mark.slow
@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_serious_accessibility_violation(visit, page_of, run, scheme):
    page = visit(page_of(run), color_scheme=scheme).page
    page.evaluate(FEW_AND_OPEN)
    found = Axe().run(page).response["violations"]
    serious = [
        (v["id"], node["html"][:200], node["failureSummary"])
        for v in found
        if v["impact"] in ("serious", "critical")
        for node in v["nodes"][:3]
    ]
    assert serious == []


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
@pytest.mark.parametrize("javascript", [True, False], ids=["script", "no script"])
def test_the_page_fits_a_phone(visit, page_of, run, javascript):
    page = visit(page_of(run), viewport=PHONE, java_script_enabled=javascript).page
    width = "document.documentElement.scrollWidth"
    if javascript:
        assert page.evaluate(width) <= PHONE["width"]
        page.evaluate(OPEN)
        assert page.evaluate(width) <= PHONE["width"]
    else:
        # Without a script in the page, what the page itself says is not evaluated either.
        box = page.locator("main").bounding_box()
        assert box is not None and box["x"] + box["width"] <= PHONE["width"]


@pytest.mark.parametrize("width", [480, 710, 768, 900, 1024])
def test_nothing_is_wider_than_the_window_between_phone_and_desktop(visit, beside_published, width):
    page = visit(beside_published, viewport={"width": width, "height": 900}).page
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_long_term_leaves_its_text_room_to_be_read(visit, page_of):
    page = visit(page_of(ONE_LENGTH)).page
    terms, texts = page.locator("#environment dt"), page.locator("#environment dd")
    terms.last.evaluate("term => { term.textContent = 'kv-snapkv-1024, '.repeat(30) }")
    box = texts.first.bounding_box()
    assert box is not None and box["width"] > DESKTOP["width"] / 2


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
def test_the_verdict_is_on_the_first_screen(visit, page_of, run):
    page = visit(page_of(run)).page
    last = page.locator(".tile").last.bounding_box()
    assert page.locator(".tile .badge").count() == 6
    assert last is not None and last["y"] + last["height"] < DESKTOP["height"]
    score = visit(page_of(run), viewport=PHONE).page.locator(".score b").bounding_box()
    assert score is not None and score["y"] + score["height"] < PHONE["height"]


def test_without_a_script_everything_can_be_read(visit, page_of):
    page = visit(page_of(ONE_LENGTH), java_script_enabled=False).page
    assert shown(page, "#filters") == 0
    assert page.locator(".sample").count() == 40
    page.locator(".prompts > summary").click()
    assert shown(page, ".sample") == 40
    page.locator(".sample > summary").first.click()
    first = page.locator(".sample").first
    assert first.locator("mark").inner_text() == "The pass key is 20007."
    assert first.locator("code").nth(1).inner_text() == "20007"
    lengths = visit(page_of(LENGTHS), java_script_enabled=False).page
    maps = lengths.locator(".switched").first.locator(".map")
    assert maps.count() == 8
    assert all(maps.nth(place).is_visible() for place in range(8))
    assert shown(lengths, ".switch") == 0


def test_filters_narrow_what_is_shown_and_say_how_much(visit, page_of):
    page = visit(page_of(ONE_LENGTH)).page
    status = page.locator("#filters [role=status]")
    assert status.inner_text() == "160 answers to 40 prompts"
    choose(page, arm="gist", right="wrong")
    assert status.inner_text() == "3 answers to 3 prompts match, of 160 answers to 40 prompts"
    assert shown(page, ".sample") == 3
    page.locator(".sample:visible > summary").first.click()
    answers = page.locator(".sample[open] dl > div:has(b)")
    assert [answers.nth(n).is_visible() for n in range(4)] == [True, False, False, False]
    page.locator("#filters [name=others]").check()
    assert all(answers.nth(n).is_visible() for n in range(4))
    page.get_by_role("button", name="Show all").click()
    page.wait_for_function("document.querySelectorAll('.sample[hidden]').length === 0")
    assert status.inner_text() == "160 answers to 40 prompts"


def test_filters_by_depth_and_by_scorers_that_disagree(visit, page_of):
    page = visit(page_of(ONE_LENGTH)).page
    choose(page, part="20 to 40 %")
    assert shown(page, ".sample") == 8
    page.get_by_role("button", name="Show all").click()
    page.locator("#filters [name=differ]").check()
    page.wait_for_function("document.querySelectorAll('.sample:not([hidden])').length === 1")
    page.locator(".sample:visible > summary").click()
    row = page.locator(".sample[open] .differ")
    assert "strict exact match says wrong: the expected answer stands in it" in row.inner_text()


def test_filters_by_task_and_length(visit, page_of):
    page = visit(page_of(LENGTHS)).page
    choose(page, task="niah_update")
    assert shown(page, ".prompts") == 2
    choose(page, context="512 tokens")
    assert shown(page, ".prompts") == 1
    assert "niah_update, 512 tokens" in page.locator(".prompts:visible > summary").inner_text()


def test_nothing_that_matches_is_said_and_not_a_blank_page(visit, page_of):
    page = visit(page_of(ONE_LENGTH)).page
    choose(page, arm="none", right="right")
    status = page.locator("#filters [role=status]").inner_text()
    assert status == "0 answers to 0 prompts match, of 160 answers to 40 prompts"


def test_maps_are_switched_by_mouse_and_by_keyboard(visit, page_of):
    page = visit(page_of(LENGTHS)).page
    box = page.locator(".switched").first
    assert shown(box, ".map") == 1
    box.get_by_text("full", exact=True).click()
    assert "full: strict exact match" in box.locator(".map:visible caption").inner_text()
    page.keyboard.press("ArrowRight")
    assert "full-tuned: strict" in box.locator(".map:visible caption").inner_text()
    box.get_by_text("gist minus full", exact=True).click()
    caption = box.locator(".map:visible caption").inner_text()
    assert "gist minus full, in points, on the same prompts" in caption
    assert shown(page.locator(".switched").nth(1), ".map") == 1


def test_a_keyboard_reaches_filters_and_samples(visit, page_of):
    page = visit(page_of(ONE_LENGTH)).page
    page.locator("#filters [name=arm]").focus()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.name") == "part"
    page.locator(".prompts > summary").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.locator(".sample[open]").count() == 1


@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_hostile_output_stays_text(visit, page_of, viewport):
    page = visit(page_of(HOSTILE_RUN), viewport=viewport).page
    assert page.title().startswith("80 of 100") or "of 100" in page.title()
    assert page.locator("img, main script, iframe").count() == 0
    assert page.locator("#samples .sample").count() == 40
    page.evaluate(OPEN)
    text = page.locator("#samples").inner_text()
    assert "<script>document.title='owned'</script>" in text
    for mark in ("⟨U+202E⟩", "⟨U+2066⟩", "⟨NUL⟩", "⟨ESC⟩", "⟨U+200B⟩", "characters cut"):
        assert mark in text
    assert not set("\u202e\u2066\x00\x1b\u200b") & set(text)
    choose(page, arm="gist")
    assert shown(page, ".sample") == 40


def test_a_script_that_is_not_the_pages_own_is_not_run(visit, page_of, tmp_path):
    text = page_of(ONE_LENGTH).read_text(encoding="utf-8")
    other = tmp_path / "other.html"
    other.write_text(text.replace("</main>", "<script>document.title='owned'</script></main>"))
    found = visit(other)
    assert found.page.title() != "owned"
    assert any("Content Security Policy" in complaint for complaint in found.complaints)
    found.complaints.clear()


def test_print_shows_what_is_folded_but_for_the_samples(visit, page_of):
    page = visit(page_of(LADDER)).page
    page.emulate_media(media="print")
    assert shown(page, "nav") == 0
    assert shown(page, "#filters") == 0
    assert page.locator("#tradeoff details table").first.is_visible()
    assert shown(page, ".sample dl") == 0
    assert len(page.pdf()) > 10_000


def test_a_printed_page_is_as_wide_as_its_paper(visit, beside_published):
    page = visit(beside_published, viewport={"width": 703, "height": 1000}).page
    page.emulate_media(media="print")  # A4 less its margins, in CSS pixels
    assert page.evaluate("document.documentElement.scrollWidth") <= 703
