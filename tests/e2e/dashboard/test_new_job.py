"""Creating a job: by form, as YAML, and as a clone."""

import json
import re
from urllib.parse import parse_qs, quote, urlsplit

import yaml
from playwright.sync_api import Page, expect

from tests.e2e.dashboard.conftest import Open, held
from tests.e2e.dashboard.jobs import TINY, Served, make_job, show_job, text_file, wait_ended
from tests.e2e.dashboard.past import Past
from tests.e2e.service import Service


def address(spec: dict, **more: str) -> str:
    parts = {"spec": json.dumps(spec), **more}
    return "/jobs/new?" + "&".join(f"{name}={quote(value)}" for name, value in parts.items())


def made(page: Page, service: Served) -> dict:
    """Create the job; return it."""
    page.get_by_role("button", name="Create job").click()
    expect(page).to_have_url(re.compile(r"/jobs/job-[0-9a-z]+/metrics"))
    return show_job(service, page.url.split("/jobs/")[1].split("/")[0])


def test_a_job_is_made_from_the_form_and_runs(service: Service, screen: Open) -> None:
    file_id = text_file(service)
    page = screen("/jobs/new").page
    page.get_by_label("Kind").select_option("pretrain")
    page.get_by_label("model", exact=True).fill("{hidden_size: 32, num_hidden_layers: 1, num_attention_heads: 2}")
    page.get_by_label("training_file").select_option(file_id)
    page.get_by_label("suffix").fill("by-form")
    page.get_by_text("hyperparameters", exact=True).click()
    page.get_by_label("max_steps").fill("4")
    page.get_by_label("packing").uncheck()
    page.reload()
    expect(page.get_by_label("suffix")).to_have_value("by-form")
    job = made(page, service)
    spec = job["spec"]
    assert (spec["suffix"], spec["model"]["hidden_size"], spec["training_file"]) == ("by-form", 32, file_id)
    assert (spec["hyperparameters"]["max_steps"], spec["hyperparameters"]["packing"]) == (4, False)
    assert wait_ended(service, job["id"])["status"] == "succeeded"


def test_a_field_with_a_list_stays_the_same_while_the_list_loads(past: Past, past_screen: Open) -> None:
    file_id = past.made["rows.jsonl"]
    page = past_screen("/jobs").page
    field = page.get_by_role("combobox", name="training_file")
    with held(page, "**/v1/files?*"):
        page.goto(past.url + address({"kind": "sft"}))
        field.focus()
    field.select_option(file_id)
    expect(field).to_be_focused()


def test_nothing_is_lost_between_form_and_yaml(past: Past, past_screen: Open) -> None:
    spec = {
        "kind": "pretrain",
        "training_file": text_file(past),
        "hyperparameters": {"learning_rate": 0.0001, "max_steps": 7, "packing": False},
        "metadata": {"a: b": "5", "lines": "one\ntwo"},
        "exclude_rows": [3, 17],
        "samples": {"prompts": ["# no comment", "yes"]},
    }
    page = past_screen(address(spec)).page
    text = page.get_by_label("The job as YAML")
    for _ in range(2):
        page.get_by_role("button", name="YAML", exact=True).click()
        # The text is typed again, so that the form can only get its values from it.
        written = text.input_value()
        assert yaml.safe_load(written) == spec
        text.fill("kind: sft\n")
        expect(page).to_have_url(re.compile("sft"))
        text.fill(written)
        page.get_by_role("button", name="Form", exact=True).click()
        expect(page.get_by_label("max_steps")).to_have_value("7")
        assert spec_in(page) == spec
    created = made(page, past)["spec"]
    for name in ("training_file", "metadata", "exclude_rows"):
        assert created[name] == spec[name]
    for name in ("hyperparameters", "samples"):
        assert spec[name].items() <= created[name].items()


def spec_in(page: Page) -> dict:
    """The draft in the address."""
    return json.loads(parse_qs(urlsplit(page.url).query)["spec"][0])


def test_an_error_is_shown_at_its_field_which_gets_the_focus(past: Past, past_screen: Open) -> None:
    spec = {"kind": "pretrain", "training_file": text_file(past), "hyperparameters": {"weight_decay": 99}}
    page = past_screen(address(spec), allow="status of 422").page
    page.get_by_role("button", name="Create job").click()
    field = page.get_by_label("weight_decay")
    expect(field).to_be_focused()
    expect(field).to_have_attribute("aria-invalid", "true")
    expect(field).to_have_accessible_description(re.compile("less than or equal to 10"))


def test_a_nested_error_is_shown_at_the_field_around_it(past: Past, past_screen: Open) -> None:
    file_id = text_file(past)
    page = past_screen("/jobs/new", allow="status of 422").page
    for spec, label, path in (
        ({"model": {"hidden_size": -5}}, "model", "model.hidden_size"),
        ({"metadata": {"a": 5}}, "metadata", "metadata.a"),
        ({"resources": {"parallel": {"zero_stage": 9}}}, "parallel", "resources.parallel.zero_stage"),
    ):
        page.goto(past.url + address({"kind": "pretrain", "training_file": file_id, **spec}))
        page.get_by_role("button", name="Create job").click()
        field = page.get_by_label(label, exact=True)
        expect(field).to_be_focused()
        expect(field).to_have_accessible_description(re.compile(re.escape(path)))


def test_another_kind_keeps_only_what_it_takes(past_screen: Open) -> None:
    spec = {"kind": "dpo", "suffix": "kept", "hyperparameters": {"beta": 0.2, "max_steps": 5}, "seed": 7}
    page = past_screen(address(spec)).page
    page.get_by_label("Kind").select_option("sft")
    expect(page.get_by_label("suffix")).to_have_value("kept")
    expect(page).to_have_url(re.compile("sft"))
    kept = spec_in(page)
    assert kept["kind"] == "sft"
    assert (kept["seed"], kept["hyperparameters"]) == (7, {"max_steps": 5})


def test_a_key_that_the_kind_does_not_take_can_be_removed(past: Past, past_screen: Open) -> None:
    spec = {"kind": "pretrain", "training_file": text_file(past), "hyperparameters": {"beta": 0.2}}
    page = past_screen(address(spec), allow="status of 422").page
    page.get_by_role("button", name="Create job").click()
    page.get_by_role("button", name="Remove hyperparameters.beta").click()
    expect(page).not_to_have_url(re.compile("beta"))
    assert "hyperparameters" not in spec_in(page)


def test_an_unknown_key_is_reported_with_a_suggestion(past: Past, past_screen: Open) -> None:
    spec = {"kind": "pretrain", "training_file": text_file(past), "hyperparameters": {"learning_rat": 0.1}}
    page = past_screen(address(spec, mode="yaml"), allow="status of 422").page
    page.get_by_role("button", name="Create job").click()
    expect(page.get_by_role("alert").filter(has_text="learning_rate").first).to_contain_text("did you mean")


def test_invalid_yaml_is_reported_by_line_and_not_sent(past_screen: Open) -> None:
    page = past_screen("/jobs/new?mode=yaml").page
    page.get_by_label("The job as YAML").fill("kind: sft\nmodel: [tiny\n")
    expect(page.get_by_text(re.compile("Line 3, column 1"))).to_be_visible()
    expect(page.get_by_role("button", name="Create job")).to_be_disabled()


def test_the_shown_plan_is_created_until_the_draft_changes(service: Service, screen: Open) -> None:
    steps = {"max_steps": 4, "max_length": 32}
    spec = {"kind": "pretrain", "training_file": text_file(service), "model": TINY, "hyperparameters": steps}
    page = screen(address(spec)).page
    page.get_by_role("button", name="Dry run").click()
    plan = page.get_by_role("region", name="Plan")
    expect(plan).to_be_visible(timeout=60_000)
    assert made(page, service)["plan"]["predicted"]["steps"] == 4
    page.go_back()
    page.get_by_role("button", name="Dry run").click()
    expect(plan).to_be_visible(timeout=60_000)
    page.get_by_label("suffix").fill("another")
    expect(plan).to_have_count(0)
    assert made(page, service)["plan"] is None


def test_a_clone_is_prefilled_and_marks_what_differs(past: Past, past_screen: Open) -> None:
    job_id = make_job(past, "original", steps=3, metadata={"team.name": "search"})
    page = past_screen(f"/jobs/{job_id}").page
    page.get_by_role("link", name="Clone").click()
    expect(page.get_by_label("suffix")).to_have_value("original")
    page.get_by_label("suffix").fill("copy")
    expect(page.get_by_text("was original")).to_be_visible()
    first, second = show_job(past, job_id)["spec"], made(page, past)["spec"]
    assert second == {**first, "suffix": "copy"}


def test_a_job_as_yaml_has_one_kind_and_must_be_valid_before_the_form(past_screen: Open) -> None:
    page = past_screen("/jobs/new?mode=yaml").page
    expect(page.get_by_label("The job as YAML")).to_be_visible()
    expect(page.get_by_role("combobox", name="Kind")).to_have_count(0)
    page.get_by_label("The job as YAML").fill("kind: [sft")
    expect(page.get_by_role("button", name="Form")).to_be_disabled()
    page.get_by_label("The job as YAML").fill("kind: dpo\n")
    page.get_by_role("button", name="Form").click()
    expect(page.get_by_role("combobox", name="Kind")).to_have_value("dpo")
    expect(page.get_by_role("button", name="Create job")).to_be_enabled()
