import pytest
from streamlit.testing.v1 import AppTest

from dashboard.sessions import COOKIE, sessions
from tests.dashboard.conftest import Open, texts
from tests.dashboard.contract import KEY, Platform, job_body
from tests.dashboard.contract_data import REVIEWED

UNDO = "Take back my last label"
PAGES = ["pipelines", "pipeline", "run", "datasets", "xray", "label", "review", "playground", "deployments", "system"]


def button(app: AppTest, label: str) -> AppTest:
    """Press the one button of that label."""
    [found] = [item for item in app.button if item.label == label]
    return found.click().run()


def tables(app: AppTest) -> str:
    return "\n".join(frame.value.to_string() for frame in app.dataframe)


# -- login -----------------------------------------------------------------------------------------------------------


def test_login_takes_a_key_and_hands_the_page_a_ticket(open_page: Open) -> None:
    app = open_page("pipelines", key=None)
    assert [field.label for field in app.text_input] == ["API key"]
    app.text_input[0].input("wrong")
    button(app, "Log in")
    assert "ask an administrator" in texts(app)
    app.text_input[0].input(KEY)
    button(app, "Log in")
    assert app.title[0].value == "Pipelines"
    ticket = app.session_state["ticket"]
    assert ticket in app.get("html")[0].value
    assert KEY not in app.get("html")[0].value
    assert sessions().claim(ticket) == app.session_state["token"]
    app.run()
    assert not app.get("html")


def test_the_cookie_of_an_earlier_visit_opens_the_page(open_page: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    login, _ = sessions().open(KEY)
    cookies = {COOKIE: login.token}
    monkeypatch.setattr("streamlit.runtime.context.ContextProxy.cookies", property(lambda self: cookies))
    assert open_page("pipelines", key=None).title[0].value == "Pipelines"
    cookies[COOKIE] = "guessed"
    assert open_page("pipelines", key=None).title[0].value == "Octavo"


def test_logging_out_forgets_the_login(open_page: Open) -> None:
    app = open_page("pipelines")
    token = app.session_state["token"]
    button(app, "Log out")
    assert sessions().find(token) is None
    assert [field.label for field in app.text_input] == ["API key"]


def test_a_key_that_was_withdrawn_leads_back_to_the_login(open_page: Open) -> None:
    app = open_page("pipelines", key="withdrawn")
    assert [field.label for field in app.text_input] == ["API key"]
    assert "no longer accepted" in texts(app)


def test_no_backend_is_a_sentence_with_its_address(open_page: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCTAVO_BACKEND_URL", "http://127.0.0.1:9")
    app = open_page("pipelines")
    assert "The backend at http://127.0.0.1:9 cannot be reached" in texts(app)
    assert not app.exception


@pytest.mark.parametrize("page", PAGES)
def test_every_page_shows_the_backends_error_as_a_sentence(open_page: Open, platform: Platform, page: str) -> None:
    sentence = "The database is being upgraded; try again in a minute."
    asked = ("/recipes", "/pipelines", "/pipelines/pipe1", "/jobs/pipe1-rlhf", "/pairs/next", "/deployments", "/system",
             "/datasets", "/jobs", "/reviews/queues")  # fmt: skip
    platform.refuse = dict.fromkeys(asked, (503, sentence))
    app = open_page(page, id={"pipeline": "pipe1", "run": "pipe1-rlhf"}.get(page, ""))
    assert sentence in texts(app)
    assert not app.exception


# -- pipelines -------------------------------------------------------------------------------------------------------


def test_starting_a_pipeline_sends_only_what_was_changed(open_page: Open, platform: Platform) -> None:
    app = open_page("pipelines")
    [steps] = [field for field in app.number_input if field.label == "Steps of sft"]
    assert steps.value == 400
    steps.set_value(25)
    button(app, "Start pipeline")
    assert platform.started == [{"recipe": "nano", "overrides": {"sft": {"steps": 25}}, "reuse": True}]


def test_a_recipe_that_imports_asks_for_the_source(open_page: Open, platform: Platform) -> None:
    app = open_page("pipelines")
    app.selectbox[0].set_value("upcycle").run()
    [source] = [field for field in app.text_input if field.label == "Source of import"]
    source.set_value("/models/llama")
    button(app, "Start pipeline")
    assert platform.started[-1]["overrides"] == {"import": {"source": "/models/llama"}}


def test_a_pipeline_reads_uploads_and_reviewed_problems(open_page: Open, platform: Platform) -> None:
    platform.datasets = [REVIEWED]
    app = open_page("pipelines")
    app.multiselect[0].set_value(["u7"])
    [problems] = [field for field in app.selectbox if field.label == "Problems"]
    problems.set_value("reviewed-0123")
    [steps] = [field for field in app.number_input if field.label == "Steps of reward"]
    steps.set_value(3)
    button(app, "Start pipeline")
    sent = platform.started[-1]["overrides"]
    assert sent["clean"] == {"uploads": ["u7"]}
    assert sent["tokenize"] == {"inputs": {"documents": "clean", "problems": "dataset:reviewed-0123"}}
    assert sent["reward"]["steps"] == 3
    assert {name for name, fields in sent.items() if "inputs" in fields} == {
        "tokenize",
        "evaluate-sft",
        "reward",
        "rlhf",
    }


def test_the_pipeline_page_lists_jobs_and_evaluations(open_page: Open) -> None:
    app = open_page("pipeline", id="pipe1")
    assert app.title[0].value == "nano"
    assert "40 of 120 · 1 min 35 s left" in [bar.proto.text for bar in app.get("progress")]
    assert "41.0 % (36.7 to 45.4 %)" in tables(app)


def test_cancel_and_retry_act_on_the_jobs(open_page: Open, platform: Platform) -> None:
    app = open_page("pipeline", id="pipe1")
    button(app, "Cancel pipeline")
    assert platform.jobs["pipe1-rlhf"]["state"] == "cancelled"
    button(app, "Retry")
    assert platform.jobs["pipe1-rlhf"]["state"] == "queued"


def test_only_the_job_that_others_wait_for_can_be_retried(open_page: Open, platform: Platform) -> None:
    platform.jobs["pipe1-sft"] |= {"state": "failed", "error": "the loss is not finite"}
    for name in ("evaluate-sft", "reward", "rlhf"):
        platform.jobs[f"pipe1-{name}"]["state"] = "cancelled"
    app = open_page("pipeline", id="pipe1")
    button(app, "Retry")
    assert platform.jobs["pipe1-sft"]["state"] == "queued"


def test_parts_of_a_job_are_shown_under_it_and_counted_together(open_page: Open, platform: Platform) -> None:
    platform.jobs["pipe1-clean"] |= {"state": "waiting", "reused_from": None}
    for number, state in enumerate(("succeeded", "running", "queued")):
        spec = {"name": f"clean-shard-00{number}", "kind": "clean_shard", "steps": 90}
        part = job_body(spec, "pipe1", state) | {"parent": "pipe1-clean"}
        platform.jobs[part["id"]] = part
    app = open_page("pipeline", id="pipe1")
    bars = {bar.proto.text: bar.proto.value for bar in app.get("progress")}
    assert bars["1 of 3 parts done"] == pytest.approx(100 * (1 + 1 / 3 + 1 / 3 + 0) / 4, abs=1), (
        "to put them together is left"
    )
    assert "of 9 jobs done" in texts(app)
    assert any(expander.label == "3 parts" for expander in app.expander)


def test_an_unknown_pipeline_is_a_sentence(open_page: Open) -> None:
    assert "There is no pipeline 'gone'." in texts(open_page("pipeline", id="gone"))


# -- run -------------------------------------------------------------------------------------------------------------


def test_curves_grow_by_what_came_since(open_page: Open, platform: Platform) -> None:
    app = open_page("run", id="pipe1-rlhf")
    headings = texts(app)
    for curve in ("Loss", "Learning rate", "Reward · correctness", "Reward · safety", "Exact match", "Expert load"):
        assert f"**{curve}**" in headings
    assert platform.metric_requests == [0, 25, 40]
    platform.metric_steps = 42
    app.run()
    assert platform.metric_requests[3:] == [40, 42]
    assert app.session_state["curves"]["pipe1-rlhf"].points("loss")[-1][0] == 42


def test_the_experts_of_each_layer_are_mapped_with_what_the_doctor_says(open_page: Open) -> None:
    page = texts(open_page("run", id="pipe1-sft"))
    assert "**Expert load by layer**" in page
    assert "expert 3 of layer 1 is dead" in page
    assert "Remedy: start it again as a copy of the busiest" in page
    assert "stethoscope" not in texts(open_page("run", id="pipe1-rlhf"))


def test_a_new_attempt_starts_its_curves_afresh(open_page: Open, platform: Platform) -> None:
    app = open_page("run", id="pipe1-rlhf")
    platform.jobs["pipe1-rlhf"]["attempt"] = 2
    platform.metric_steps = 12
    app.run()
    assert [step for step, _ in app.session_state["curves"]["pipe1-rlhf"].points("loss")] == list(range(1, 13))


def test_another_run_is_laid_over_and_named_in_the_url(open_page: Open) -> None:
    app = open_page("run", id="pipe1-rlhf")
    [choice] = [box for box in app.selectbox if box.label == "Compare with"]
    choice.set_value("pipe1-sft").run()
    assert app.query_params["compare"] == "pipe1-sft"
    assert set(app.session_state["curves"]) == {"pipe1-rlhf", "pipe1-sft"}
    again = open_page("run", id="pipe1-rlhf", compare="pipe1-sft")
    assert set(again.session_state["curves"]) == {"pipe1-rlhf", "pipe1-sft"}


@pytest.mark.parametrize(
    ("job", "section", "shown"),
    [
        ("clean", "Result", "Too few."),
        ("evaluate-sft", "Result", "36.7 to 45.4 %"),
        ("rlhf", "Log", "step 40 loss 0.512"),
        ("clean", "Artifacts", "About tensors."),
        ("rlhf", "Artifacts", "correctness 1"),
        ("sft", "Spec", "Intermediate size"),
    ],
)
def test_each_section_shows_what_the_run_left(open_page: Open, job: str, section: str, shown: str) -> None:
    app = open_page("run", id=f"pipe1-{job}", section=section)
    assert shown in texts(app) + tables(app)
    assert not app.exception


def test_a_failed_run_says_why_and_can_be_retried(open_page: Open, platform: Platform) -> None:
    platform.jobs["pipe1-rlhf"] |= {"state": "failed", "error": "loss is not finite at step 3; lower optimizer.lr"}
    app = open_page("run", id="pipe1-rlhf")
    assert "loss is not finite at step 3" in texts(app)
    button(app, "Retry run")
    assert platform.jobs["pipe1-rlhf"]["state"] == "queued"


# -- label -----------------------------------------------------------------------------------------------------------


def test_labels_carry_position_and_choice_until_none_is_left(open_page: Open, platform: Platform) -> None:
    app = open_page("label")
    assert "What is 17 + 26?" in texts(app)
    shortcuts = {item.label: item.proto.shortcut.lower() for item in app.button if item.proto.shortcut}
    assert shortcuts == {
        "A is better": "a",
        "B is better": "b",
        "Tie": "t",
        "Both bad": "x",
        "Skip": "s",
        UNDO: "u",
    }
    button(app, "A is better")
    button(app, "Tie")
    assert [(label["pair"], label["position"], label["choice"]) for label in platform.labels] == [
        ("p1", "ab", "left"),
        ("p2", "ba", "tie"),
    ]
    assert all(label["seconds"] >= 0 for label in platform.labels)
    assert "Nothing is left to judge" in texts(app)


def test_a_press_meant_for_the_last_pair_judges_nothing(open_page: Open, platform: Platform) -> None:
    app = open_page("label")
    keys = {item.key for item in app.button if item.proto.shortcut and item.label != UNDO}
    button(app, "Skip")
    assert keys.isdisjoint({item.key for item in app.button if item.proto.shortcut and item.label != UNDO})


def test_pairs_come_from_a_reward_job(open_page: Open, platform: Platform) -> None:
    app = open_page("label")
    button(app, "Import pairs from a reward job")
    assert platform.imports == [{"job": "pipe1-reward", "limit": 50, "order": "as_made"}]


def test_a_label_is_taken_back_and_its_pair_shown_again(open_page: Open, platform: Platform) -> None:
    app = open_page("label")
    app = button(app, "A is better")
    assert "What is 17 + 26?" not in texts(app)
    app = button(app, UNDO)
    assert "What is 17 + 26?" in texts(app)
    assert platform.labels == []


def test_the_meter_warns_of_a_judge_who_looks_at_nothing(open_page: Open, platform: Platform) -> None:
    app = open_page("label")
    assert "**Ben** chose the left answer 28 of 28 times" in app.warning[0].value
    [row] = app.dataframe[0].value.to_dict("records")
    assert (row["Left : right"], row["Repeats judged alike"]) == ("28 : 0", "50.0 % of 4")
    assert (row["Same side when swapped"], row["Agreement (kappa)"]) == ("100.0 % of 2", "Ada 0.02")
    platform.role = "labeller"
    assert not open_page("label").dataframe


def test_a_labeller_starts_on_the_label_page_without_import(open_page: Open, platform: Platform) -> None:
    platform.role = "labeller"
    app = open_page("pipelines")
    assert app.title[0].value == "Label"
    assert "Import pairs from a reward job" not in [item.label for item in app.button]


# -- playground ------------------------------------------------------------------------------------------------------


def test_the_playground_streams_folds_the_thinking_and_reports_usage(open_page: Open, platform: Platform) -> None:
    app = open_page("playground")
    app.chat_input[0].set_value("What is 40 + 2?").run()
    assert "The answer is 42." in texts(app)
    assert "<think>" not in texts(app)
    assert "Thinking" in [folded.label for folded in app.expander]
    assert "11 tokens in · 23 tokens out" in texts(app)
    assert platform.chats[0]["messages"] == [{"role": "user", "content": "What is 40 + 2?"}]


def test_the_conversation_survives_a_refresh(open_page: Open) -> None:
    app = open_page("playground")
    app.chat_input[0].set_value("What is 40 + 2?").run()
    again = open_page("playground")
    again.session_state["token"] = app.session_state["token"]
    assert "The answer is 42." in texts(again.run())


def test_two_answers_become_a_pair(open_page: Open, platform: Platform) -> None:
    app = open_page("playground")
    app.chat_input[0].set_value("What is 40 + 2?").run()
    button(app, "Generate two and save as pair")
    [pair] = platform.pairs_saved
    assert pair["a"] != pair["b"]
    assert pair["prompt"] == [{"role": "user", "content": "What is 40 + 2?"}]
    assert pair["origin"] == "playground:octavo-nano"


def test_a_refused_question_is_a_sentence_and_does_not_spoil_the_next(open_page: Open, platform: Platform) -> None:
    platform.refuse["/v1/chat/completions"] = (400, "The prompt has 300 tokens, but the context holds 256.")
    app = open_page("playground")
    app.chat_input[0].set_value("long").run()
    assert "300 tokens, but the context holds 256" in texts(app)
    login = sessions().find(app.session_state["token"])
    assert login is not None
    assert login.conversation == []
    platform.refuse.clear()
    app.chat_input[0].set_value("What is 40 + 2?").run()
    assert [turn.role for turn in login.conversation] == ["user", "assistant"]
    assert len(platform.chats[-1]["messages"]) == 1


def test_only_what_answers_can_be_asked(open_page: Open, platform: Platform) -> None:
    app = open_page("playground")
    versions = ["octavo-nano", "octavo-nano@pipe1-export", "octavo-nano@pipe1-export-rl"]
    assert app.selectbox[0].options == versions
    assert "octavo-old could not be loaded: the parity check found a difference of 0.3" in texts(app)
    platform.deployments["octavo-nano"]["state"] = "loading"
    app.run()
    assert app.selectbox[0].options == versions
    assert "octavo-nano is loading; what was deployed before goes on." in texts(app)


def select(app: AppTest, label: str, value: str) -> AppTest:
    [found] = [item for item in app.selectbox if item.label == label]
    return found.set_value(value).run()


def test_two_models_answer_side_by_side_and_their_answers_become_a_pair(open_page: Open, platform: Platform) -> None:
    app = select(open_page("playground"), "Beside it", "octavo-nano")
    app.chat_input[0].set_value("What is 40 + 2?").run()
    assert texts(app).count("The answer is 42.") == 2
    assert [chat["messages"] for chat in platform.chats] == [[{"role": "user", "content": "What is 40 + 2?"}]] * 2
    button(app, "Save the two as pair")
    assert "Both answers are the same" in texts(app)
    login = sessions().find(app.session_state["token"])
    assert login is not None
    login.other[-1] = login.other[-1].model_copy(update={"content": "The answer is 43."})
    button(app, "Save the two as pair")
    [pair] = platform.pairs_saved
    assert (pair["a"].endswith("is 42."), pair["b"]) == (True, "The answer is 43.")
    assert pair["prompt"] == [{"role": "user", "content": "What is 40 + 2?"}]


def test_a_model_that_joins_later_is_asked_with_the_turns_so_far(open_page: Open, platform: Platform) -> None:
    app = open_page("playground")
    app.chat_input[0].set_value("What is 40 + 2?").run()
    select(app, "Beside it", "octavo-nano").chat_input[0].set_value("And 1 more?").run()
    assert [len(chat["messages"]) for chat in platform.chats] == [1, 3, 3]


def test_versions_of_one_name_can_be_compared(open_page: Open, platform: Platform) -> None:
    app = select(open_page("playground"), "Model", "octavo-nano@pipe1-export")
    app = select(app, "Beside it", "octavo-nano@pipe1-export-rl")
    app.chat_input[0].set_value("What is 40 + 2?").run()
    assert [chat["model"] for chat in platform.chats] == ["octavo-nano@pipe1-export", "octavo-nano@pipe1-export-rl"]


def test_token_probabilities_colour_the_answer_and_name_what_else_might_have_come(
    open_page: Open, platform: Platform
) -> None:
    app = open_page("playground")
    app.toggle[0].set_value(True).run()
    app.chat_input[0].set_value("What is 40 + 2?").run()
    assert (platform.chats[0]["logprobs"], platform.chats[0]["top_logprobs"]) == (True, 5)
    page = "\n".join(element.value for element in app.get("html"))
    assert "The answer</span>" in page
    assert "60.0%" in page
    assert "30.0%" in page
    assert "<b>" not in page, "a token is text, whatever it spells"


def test_stop_texts_and_the_same_question_as_code(open_page: Open, platform: Platform) -> None:
    app = open_page("playground")
    app.session_state["stop"] = ["\n\n"]
    app.run()
    app.chat_input[0].set_value("What is 40 + 2?").run()
    assert platform.chats[0]["stop"] == ["\n\n"]
    curl, python = (element.value for element in app.code)
    assert curl.startswith("curl ")
    compile(python, "playground", "exec")
    assert "stop=" in python
    assert KEY not in curl + python


def test_an_answer_of_nothing_stays_beside_the_other(open_page: Open, platform: Platform) -> None:
    platform.silent_after = 1
    app = select(open_page("playground"), "Beside it", "octavo-nano")
    app.chat_input[0].set_value("What is 40 + 2?").run()
    assert texts(app).count("The answer is 42.") == 1
    assert "_(no answer)_" in texts(app)


# -- deployments -----------------------------------------------------------------------------------------------------


def test_a_card_says_what_answers_and_how_close_it_is(open_page: Open) -> None:
    app = open_page("deployments")
    bars = [(bar.proto.value, bar.proto.text) for bar in app.get("progress")]
    assert bars == [
        (75, "answers 75 % of the requests"),
        (25, "answers 25 % of the requests"),
        (0, "refused; it answers nothing"),
    ]
    shown = texts(app)
    assert "answers in bfloat16 · float32 differs by 2.00e-06" in shown
    assert "mean KL 2.10e-05 · top-1 agreement 99.2 %" in shown
    assert "the parity check found a difference of 0.3" in shown
    assert [item.disabled for item in app.button if item.label == "Roll back"] == [False, True]


def test_live_figures_and_history_are_tables(open_page: Open) -> None:
    live, history = (frame.value for frame in open_page("deployments").dataframe)
    [row] = live.to_dict("records")
    assert (row["Version"], row["Requests"], row["Tokens out"]) == ("export · pipe1-ex", 40, 3100)
    assert (row["Tokens/s"], row["First token"]) == ("0", "–")  # of one look nothing can be said
    assert list(history["What"]) == ["shared out", "deployed", "deployed"]
    assert list(history["By"]) == ["Ada", "a job", "a job"]


def test_an_export_is_deployed_with_a_share(open_page: Open, platform: Platform) -> None:
    app = open_page("deployments")
    [export] = [box for box in app.selectbox if box.label == "Export"]
    export.set_value("pipe1-export-rl")
    [share] = [field for field in app.number_input if field.label == "Share of the requests (%)"]
    share.set_value(20)
    app = button(app, "Deploy")
    assert platform.deployed == [{"model_name": "octavo-nano", "job": "pipe1-export-rl", "share": 0.2}]
    assert "is being loaded and checked" in [bar.proto.text for bar in app.get("progress")]


def test_a_refused_rollback_is_said_in_the_backends_words(open_page: Open, platform: Platform) -> None:
    app = open_page("deployments")
    platform.refuse["/deployments/octavo-nano/rollback"] = (409, "There is none to go back to.")
    next(item for item in app.button if item.label == "Roll back").click().run()
    assert "There is none to go back to." in texts(app)


def test_rollback_and_removal_act_on_their_card(open_page: Open, platform: Platform) -> None:
    app = open_page("deployments")
    app.button(key="back-octavo-nano").click().run()
    assert [item["share"] for item in platform.deployments["octavo-nano"]["versions"]] == [1.0, 0.0]
    assert "kept for a rollback" in [bar.proto.text for bar in app.get("progress")]
    app.button(key="remove-octavo-old").click().run()
    assert list(platform.deployments) == ["octavo-nano"]


def test_without_deployment_or_export_the_page_says_what_to_do(open_page: Open, platform: Platform) -> None:
    platform.deployments.clear()
    for name in ("export", "export-rl"):
        platform.jobs[f"pipe1-{name}"]["state"] = "failed"
    shown = texts(open_page("deployments"))
    assert "No model is deployed yet" in shown
    assert "There is no export yet" in shown


# -- system ----------------------------------------------------------------------------------------------------------


def test_an_administrator_adds_a_user_and_sees_the_key_once(open_page: Open, platform: Platform) -> None:
    app = open_page("system")
    assert "Memory used: 9.5 GB" in texts(app)
    [name] = [field for field in app.text_input if field.label == "Name of the new user"]
    name.input("Grace")
    button(app, "Add user")
    assert platform.users[-1]["name"] == "Grace"
    assert "a-new-key" in texts(app)
    app.run()
    assert "a-new-key" not in texts(app)


def test_members_do_not_see_the_users(open_page: Open, platform: Platform) -> None:
    platform.role = "member"
    assert "Users" not in [heading.value for heading in open_page("system").subheader]
