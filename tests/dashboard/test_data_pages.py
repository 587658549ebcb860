import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from tests.dashboard.conftest import Open, texts
from tests.dashboard.contract import Platform
from tests.dashboard.contract_data import REVIEWED, SCAN_ROWS, problem
from tests.dashboard.test_pages import button, tables


@pytest.fixture(autouse=True)
def _nothing_kept() -> None:
    st.cache_data.clear()


def charts(app: AppTest) -> str:
    return "\n".join(chart.proto.spec for chart in app.get("arrow_vega_lite_chart") + app.get("vega_lite_chart"))


def shown_rows(app: AppTest) -> list[int]:
    [frame] = app.dataframe
    return list(frame.value["Row"])


def choose(app: AppTest, label: str, value: str) -> AppTest:
    [found] = [item for item in app.selectbox if item.label == label]
    return found.set_value(value).run()


# -- datasets --------------------------------------------------------------------------------------------------------


def test_the_list_names_what_jobs_made_and_what_was_frozen(open_page: Open, platform: Platform) -> None:
    app = open_page("datasets")
    labels = [link.proto.label for link in app.get("page_link")]
    assert any("synthesize" in label for label in labels)
    assert not any("rlhf" in label for label in labels)


def test_a_job_without_data_is_a_sentence(open_page: Open) -> None:
    assert "leaves no data" in texts(open_page("datasets", id="pipe1-rlhf"))


def test_a_search_says_how_far_it_got_and_goes_on_and_back(open_page: Open) -> None:
    app = open_page("datasets", id="pipe1-clean")
    assert shown_rows(app) == list(range(10))
    app.text_input[0].set_value("Page 2").run()
    assert shown_rows(app) == [2, *range(20, 25)]
    assert f"Rows 0 to {SCAN_ROWS} of 60 searched: 6 found." in texts(app)
    button(app, "Search on")
    assert shown_rows(app) == list(range(25, 30))
    button(app, "Back")
    assert shown_rows(app) == [2, *range(20, 25)]
    app.text_input[0].set_value("nowhere").run()
    assert not app.dataframe
    assert "Rows 0 to 60 of 60 searched: 0 found." in texts(app)
    [further] = [item for item in app.button if item.label == "Search on"]
    assert further.disabled


def test_a_filter_leaves_the_rows_with_that_value(open_page: Open) -> None:
    app = open_page("datasets", id="pipe1-clean")
    choose(app, "Domain", "science")
    assert shown_rows(app) == list(range(1, 21, 2))
    choose(app, "Source", "notes")
    assert not app.dataframe


def test_every_dropped_document_is_accounted_for(open_page: Open) -> None:
    app = open_page("datasets", id="pipe1-clean", section="Drops")
    text = texts(app)
    for line in ("Read: 1\u202f036", "Kept: 812", "Dropped by a rule: 224", "Could not be read: 3", "Too few."):
        assert line in text
    assert "Dropped nothing: personal data." in text
    assert "byte 0xff at 17" in tables(app)


def test_the_charts_show_what_a_job_counted(open_page: Open) -> None:
    text = texts(open_page("datasets", id="pipe1-clean", section="Charts"))
    for title in ("Length of documents", "Domains", "Languages", "Sources", "Licences"):
        assert f"**{title}**" in text
    text = texts(open_page("datasets", id="pipe1-synthesize", section="Charts"))
    for title in ("Families", "Mistakes of wrong answers", "Rejected, by reason"):
        assert f"**{title}**" in text


def test_problems_are_written_out(open_page: Open) -> None:
    app = open_page("datasets", id="pipe1-synthesize")
    text = texts(app)
    assert r"$2\cdot 1=2$" in text
    assert "The answer is $2$." in text
    choose(app, "Family", "addition")
    assert "searched: 10 found" in texts(app)


def test_the_mixture_stands_beside_what_was_wanted(open_page: Open) -> None:
    app = open_page("datasets", id="pipe1-tokenize")
    assert "wanted" in charts(app)
    assert "reached" in charts(app)
    assert "about 2\u202f000" in tables(app)
    assert "all there is" in texts(app)


def test_lineage_links_to_what_it_was_made_of_and_what_used_it(open_page: Open) -> None:
    app = open_page("datasets", id="pipe1-tokenize", section="Lineage")
    labels = [link.proto.label for link in app.get("page_link")]
    assert "**clean** · as documents" in labels
    assert "**reviewed-0123** · as problems" in labels
    assert "**train it** · as dataset" in labels
    assert "flowchart LR" in texts(app)


# -- X-ray -----------------------------------------------------------------------------------------------------------


def test_a_row_is_shown_with_its_documents_and_the_steps_that_drew_it(open_page: Open, platform: Platform) -> None:
    app = open_page("xray", id="pipe1-tokenize")
    asked = {"job": "pipe1-tokenize", "source": "text", "split": "train", "row": 0, "training": "pipe1-sft"}
    assert platform.inspected == [asked]
    assert "4 tokens, 4 of padding. 50.0 % of the tokens count" in texts(app)
    assert "Phase **text** · steps 3, 9" in texts(app)
    assert "too few words, near duplicate" in texts(app)
    app.number_input[0].set_value(39).run()
    assert platform.inspected[-1]["row"] == 39


def test_a_training_without_a_record_is_said_and_the_row_shown(open_page: Open, platform: Platform) -> None:
    platform.no_record = True
    app = open_page("xray", id="pipe1-tokenize")
    assert "kept no record" in texts(app)
    assert "50.0 % of the tokens count" in texts(app)
    assert "Used by training" not in texts(app)


def test_the_rows_of_a_step_lead_to_them(open_page: Open, platform: Platform) -> None:
    app = open_page("xray", id="pipe1-tokenize")
    [step] = [field for field in app.number_input if field.label == "Rows of step"]
    step.set_value(7).run()
    [rows] = [field for field in app.selectbox if field.label == "Drawn in phase dialogue"]
    assert rows.options == ["text, row 7", "dialogue, row 4", "dialogue, row 2"]
    rows.select("dialogue, row 2").run()
    assert (platform.inspected[-1]["source"], platform.inspected[-1]["row"]) == ("dialogue", 2)


def test_a_random_row_is_one_that_exists(open_page: Open, platform: Platform) -> None:
    app = open_page("xray", id="pipe1-tokenize", source="dialogue")
    for _ in range(8):
        button(app, "Random row")
    assert {asked["row"] for asked in platform.inspected} <= set(range(5))
    assert {asked["source"] for asked in platform.inspected} == {"dialogue"}


def test_a_split_without_rows_is_a_sentence(open_page: Open, platform: Platform) -> None:
    app = open_page("xray", id="pipe1-tokenize", split="heldout")
    assert "There are no rows" in texts(app)
    assert platform.inspected == []


# -- review ----------------------------------------------------------------------------------------------------------


def test_every_decision_has_a_key(open_page: Open, platform: Platform) -> None:
    app = open_page("review")
    shortcuts = {item.label: item.proto.shortcut.lower() for item in app.button if item.proto.shortcut}
    assert shortcuts == {"Accept": "a", "Edit": "e", "Reject": "x", "Undo": "u", "Skip": "s"}
    button(app, "Accept")
    button(app, "Skip")
    button(app, "Reject")
    button(app, "Wrong answer")
    sent = [(body["number"], body["decision"], body.get("reason")) for body in platform.reviewed]
    assert sent == [(0, "accept", None), (1, "skip", None), (2, "reject", "wrong answer")]
    button(app, "Undo")
    assert platform.to_review == 2
    assert r"2\*2 + 0?" in texts(app)


def test_a_second_press_meant_for_the_last_problem_does_nothing(open_page: Open) -> None:
    app = open_page("review")
    keys = {item.key for item in app.button if item.proto.shortcut}
    button(app, "Accept")
    assert keys.isdisjoint({item.key for item in app.button if item.proto.shortcut})


def test_a_reject_takes_ones_own_words(open_page: Open, platform: Platform) -> None:
    app = open_page("review")
    button(app, "Reject")
    [words] = [item for item in app.text_input if item.label == "In your own words"]
    words.set_value("two answers fit")
    button(app, "Reject")
    assert platform.reviewed[0]["reason"] == "two answers fit"


def test_an_edit_is_checked_and_what_was_typed_stays(open_page: Open, platform: Platform) -> None:
    app = open_page("review")
    button(app, "Edit")
    [answer] = [item for item in app.text_input if item.label == "Answer"]
    answer.set_value("wrong")
    button(app, "Check and save")
    assert "is not right: wrong answer" in texts(app)
    [answer] = [item for item in app.text_input if item.label == "Answer"]
    assert answer.value == "wrong"
    answer.set_value("0")
    [prompt] = [item for item in app.text_area if item.label == "Prompt"]
    prompt.set_value("How much is 2*0 + 0?")
    button(app, "Check and save")
    [body] = platform.reviewed
    assert body["problem"] == problem(0) | {"prompt": "How much is 2*0 + 0?"}


def test_one_can_leave_a_form_without_a_decision(open_page: Open, platform: Platform) -> None:
    app = open_page("review")
    for form in ("Edit", "Reject"):
        button(app, form)
        button(app, "Back without a decision")
        assert "Accept" in [item.label for item in app.button]
    assert platform.reviewed == []


def test_a_problem_that_somebody_else_took_makes_room_for_the_next(open_page: Open, platform: Platform) -> None:
    app = open_page("review")
    platform.refuse = {"/reviews": (409, "problem 0 is no longer yours")}
    platform.to_review = 1
    button(app, "Accept")
    assert "no longer yours" in texts(app)
    app.run()
    assert r"2\*1 + 0?" in texts(app)


def test_progress_and_rate_are_shown(open_page: Open) -> None:
    app = open_page("review")
    button(app, "Accept")
    assert "Problems left: 29" in texts(app)
    assert "You: 1 accepted, 0 edited, 0 rejected · 10.0 a minute" in texts(app)
    assert "Ada" in tables(app)


def test_an_empty_queue_thanks_and_can_still_undo(open_page: Open, platform: Platform) -> None:
    platform.to_review = 29
    app = open_page("review")
    button(app, "Accept")
    assert "Nothing is left to review" in texts(app)
    button(app, "Undo the last one")
    assert r"2\*29 + 0?" in texts(app)


def test_freezing_leads_to_the_dataset_and_how_to_use_it(open_page: Open, platform: Platform) -> None:
    app = open_page("review")
    button(app, "Freeze")
    assert platform.frozen == [{"job": "pipe1-synthesize", "include": "accepted"}]


def test_a_frozen_dataset_says_how_a_recipe_reads_it(open_page: Open, platform: Platform) -> None:
    platform.datasets = [REVIEWED]
    app = open_page("datasets", id="reviewed-0123")
    assert 'problems = "dataset:reviewed-0123"' in texts(app)
    assert "6 accepted" in texts(app)


@pytest.mark.parametrize("role", ["labeller", "member"])
def test_a_labeller_reviews_but_does_not_freeze(open_page: Open, platform: Platform, role: str) -> None:
    platform.role = role
    app = open_page("review")
    assert ("Freeze" in [item.label for item in app.button]) == (role == "member")
    assert "Accept" in [item.label for item in app.button]
