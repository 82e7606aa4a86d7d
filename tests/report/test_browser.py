"""The page in a browser: headless Chromium on a file, at the width of a desk and of a hand."""

import re
import shutil

import pytest

from .conftest import DATASET, NAMES, RUNS, SCRIPT
from .expected import expected

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright drives the browser")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Debian's package chromium is not installed")
WIDTHS = (1280, 400)


@pytest.fixture(scope="module")
def chromium():
    with sync_api.sync_playwright() as playwright:
        # As root, in a container, Chromium's own sandbox cannot be set up; the page is our own.
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture(params=WIDTHS)
def tab(request, chromium, page):
    """The page, opened; when the test is over, nothing may have gone wrong and nothing have been fetched."""
    context = chromium.new_context(viewport={"width": request.param, "height": 800})
    tab, told, fetched = context.new_page(), [], []
    tab.on("console", lambda message: told.append(message.text))
    tab.on("pageerror", lambda error: told.append(str(error)))
    tab.on("request", lambda asked: fetched.append(asked.url))
    tab.goto(page.as_uri())
    tab.wait_for_selector("table.dataTable")
    yield tab
    assert not told
    assert [url for url in fetched if not url.startswith(("file:", "data:"))] == []
    assert tab.evaluate("window.evil") is None
    context.close()


def check_column(tab, table: str, place: int, texts: list[str]) -> None:
    """The texts of a column, in their order; it is drawn some moments after it was asked for."""
    sync_api.expect(tab.locator(f"#{table} tbody tr > :nth-child({place})")).to_have_text(texts)


def test_a_table_sorts_as_numbers_with_blanks_last(tab):
    title = tab.locator("#grid-kalm_table_1 thead th", has_text="Reported")
    check_column(tab, "grid-kalm_table_1", 3, ["2300", "97", "", ""])
    title.click()
    check_column(tab, "grid-kalm_table_1", 3, ["97", "2300", "", ""])
    title.click()
    check_column(tab, "grid-kalm_table_1", 3, ["2300", "97", "", ""])
    tab.locator("#grid-lmke_cases thead th", has_text="Count").click()
    check_column(tab, "grid-lmke_cases", 3, ["9", "10"])


def test_a_table_filters(tab):
    table = tab.locator("#table-kalm_table_1")
    table.get_by_role("searchbox", name="Filter").fill("rota")
    check_column(tab, "grid-kalm_table_1", 1, ["RotatE"])
    table.get_by_role("searchbox", name="Filter").fill("</script>")
    check_column(tab, "grid-kalm_table_1", 1, [SCRIPT])
    table.get_by_role("searchbox", name="Filter").fill("")
    table.get_by_role("combobox", name="Dataset").select_option("toy")
    check_column(tab, "grid-kalm_table_1", 1, ["TransE"])
    table.get_by_role("combobox", name="Dataset").select_option("all")
    table.get_by_label("only what was run").check()
    check_column(tab, "grid-kalm_table_1", 1, ["RotatE", SCRIPT, "TransE"])
    table.get_by_label("only what was run").uncheck()
    check_column(tab, "grid-kalm_table_1", 1, ["TransE", "RotatE", SCRIPT, "TransE"])


@pytest.mark.parametrize("direction", ["tail", "head"])
def test_a_query_shows_answers_ranks_and_what_was_left_out(tab, results, direction):
    query = {"direction": direction, "head": 0, "relation": 0, "tail": 1}
    tab.get_by_role("combobox", name="Asked for").select_option(direction)
    tab.get_by_role("searchbox", name="Find").fill(NAMES[1][:9])
    assert tab.get_by_role("combobox", name="Triple").locator("option").count() == 1
    tab.locator("#chosen > summary").click()
    tab.get_by_role("button", name="All").click()
    for run in RUNS:
        left_out, rank, scores = expected(results, run, query)
        answer = tab.locator(f'#answer article[data-run="{run}"]')
        ranked = results.ranks(run)
        (row,) = ranked.query("split == 'test' and direction == @direction and head == 0 and tail == 1").to_dict(
            "records"
        )
        assert row["realistic"] == rank
        shown = re.match(r"Rank ([\d.]+)(?: \(\d+ to \d+\))? of (\d+)", answer.locator(".rank").inner_text())
        assert (float(shown[1]), int(shown[2])) == (rank, len(scores))
        truth = NAMES[query[direction]]
        assert answer.locator("li.truth bdi").all_inner_texts() == [truth]
        values = [float(text) for text in answer.locator("li small").all_inner_texts()]
        assert values == sorted(scores.values(), reverse=True)[:10]
        assert [NAMES[e] for e in left_out] == (['a & b\'s "c"', "{{ 1 }} ${2}"] if direction == "tail" else [])
    if left_out:
        tab.locator("#answer .known > summary").click()
        assert tab.locator("#answer .known bdi").all_inner_texts() == [NAMES[e] for e in left_out]


def test_the_runs_that_are_shown_can_be_chosen(tab):
    assert tab.locator("#answer article").count() == 1  # the other is a variant
    tab.locator("#chosen > summary").click()
    tab.get_by_role("checkbox", name=RUNS[1]).check()
    assert tab.locator("#answer article").count() == 2
    tab.get_by_role("button", name="None").click()
    assert tab.locator("#answer article").count() == 0
    tab.get_by_role("searchbox", name="Find").fill("no such name")
    assert "No triple matches" in tab.locator("#answer").inner_text()
    tab.locator("#browser").get_by_role("combobox", name="Dataset").select_option(DATASET)


def test_a_link_opens_the_card_it_leads_to(tab):
    card = tab.locator(f"#run-{RUNS[0]}")
    assert not card.evaluate("card => card.open")
    tab.locator(f'#grid-runs a[href="#run-{RUNS[0]}"]').click()
    assert card.evaluate("card => card.open")
    assert card.locator("img").first.evaluate("image => image.naturalWidth") > 0


def test_nothing_is_wider_than_the_window(tab):
    tab.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    assert tab.evaluate("document.documentElement.scrollWidth") <= tab.viewport_size["width"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_on_its_ground(chromium, page, scheme):
    """Contrast of at least 4.5 (WCAG 2.2, 1.4.3) between each colour of text and the grounds it stands on."""
    tab = chromium.new_context(color_scheme=scheme).new_page()
    tab.goto(page.as_uri())
    tab.wait_for_selector("table.dataTable")
    read = "name => getComputedStyle(document.documentElement).getPropertyValue(name).trim()"
    colour = {
        name: tab.evaluate(read, f"--{name}")
        for name in ("text", "soft", "link", "good", "mark", "ground", "raised", "good-ground", "mark-ground")
    }
    pairs = [(text, ground) for text in ("text", "soft", "link", "good") for ground in ("ground", "raised")]
    for text, ground in [*pairs, ("good", "good-ground"), ("soft", "good-ground"), ("mark", "mark-ground")]:
        assert contrast(colour[text], colour[ground]) >= 4.5, (scheme, text, ground)
    assert tab.evaluate("getComputedStyle(document.querySelector('.dt-container')).color") == tab.evaluate(
        "getComputedStyle(document.body).color"
    )


def contrast(first: str, second: str) -> float:
    """The contrast ratio of two colours #rrggbb (WCAG 2.2)."""
    bright, dark = sorted(map(luminance, (first, second)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


def luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
