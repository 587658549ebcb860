"""The house itself: what is written down in several places agrees, and the rooms load only what they may."""

import configparser
import importlib.util
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version
from pydantic_settings import BaseSettings

from backend.settings import Settings as BackendSettings
from dashboard.settings import Settings as DashboardSettings
from serving.settings import Settings as ServingSettings
from trainer.spec import load_recipe, recipe_names

ROOT = Path(__file__).parent.parent
SETTINGS: tuple[type[BaseSettings], ...] = (BackendSettings, ServingSettings, DashboardSettings)
TARGETS = ("demo", "up", "down", "test", "lint", "bench", "screenshot", "claims")
JOURNEY = ("clean", "synthesize", "tokenize", "sft", "reward", "dpo", "rlhf", "evaluate", "export", "deploy")


def variables() -> dict[str, str]:
    """Every environment variable of the settings classes, with its default as text."""
    found: dict[str, str] = {}
    for settings in SETTINGS:
        for name, field in settings.model_fields.items():
            found.setdefault(f"OCTAVO_{name.upper()}", str(field.default))
    return found


def readme_table() -> dict[str, str]:
    rows = re.findall(r"^\| `(OCTAVO_\w+)` \| (.*?) \|", (ROOT / "README.md").read_text(), re.MULTILINE)
    return {variable: default.strip("`") for variable, default in rows}


def pins() -> dict[str, Version]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return {name.lower().replace("_", "-"): Version(version) for name, version in (line.split("==") for line in lines)}


@pytest.mark.parametrize("module", ["trainer.spec", "trainer.artifacts", "backend.app", "backend.worker"])
def test_importing_what_the_backend_needs_loads_no_torch(module: str) -> None:
    program = f"import {module}, sys; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False).returncode == 0


@pytest.mark.parametrize("name", recipe_names())
def test_a_shipped_recipe_parses_and_ends_in_a_deployment(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    assert recipe.jobs[-1].kind == "deploy"


@pytest.mark.parametrize("name", ["nano", "smoke"])
def test_the_demo_makes_the_whole_journey(name: str) -> None:
    assert {job.kind for job in load_recipe(name).jobs} == set(JOURNEY)


@pytest.mark.parametrize("name", recipe_names())
def test_every_later_evaluation_is_paired_with_the_first(name: str) -> None:
    first, *later = (job for job in load_recipe(name).jobs if job.kind == "evaluate")
    assert later
    assert {job.inputs.get("baseline") for job in later} == {first.name}


def test_the_readme_lists_exactly_the_settings_there_are() -> None:
    table = readme_table()
    assert sorted(table) == sorted(variables())
    for variable, default in variables().items():
        if not variable.endswith(("_COMMAND", "_URL")):
            assert table[variable] == default, variable


def test_the_compose_file_fits_the_schema_of_compose_files() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    checked = subprocess.run([*command, ROOT / "docker-compose.yml"], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_compose_file_sets_only_variables_that_exist_and_runs_only_rooms_that_exist() -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    ours = {name: service for name, service in services.items() if service["image"].startswith("octavo:")}
    assert set(ours) == {"backend", "worker", "serving", "dashboard"}
    for service in ours.values():
        assert set(service["environment"]) <= set(variables())
        assert service["command"][:2] == ["python", "-m"]
        assert importlib.util.find_spec(service["command"][2]) is not None


def test_supervisor_starts_five_programs_that_exist() -> None:
    config = configparser.ConfigParser(interpolation=None, inline_comment_prefixes=(" ;",))
    config.read(ROOT / "supervisord.conf")
    programs = {name.removeprefix("program:"): config[name] for name in config.sections() if name[:8] == "program:"}
    assert set(programs) == {"broker", "backend", "worker", "serving", "dashboard"}
    for program in programs.values():
        assert program["autorestart"] == "true"
        assert program["stopasgroup"] == program["killasgroup"] == "true"
        assert importlib.util.find_spec(program["command"].split()[-1]) is not None


def test_every_dependency_is_pinned_to_a_version_that_fits() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pinned = pins()
    for line in [*project["dependencies"], *project["optional-dependencies"]["test"]]:
        requirement = Requirement(line)
        name = requirement.name.lower().replace("_", "-")
        assert name in pinned, f"{name} is not in constraints.txt"
        assert requirement.specifier.contains(pinned[name]), f"{name} {pinned[name]} does not fit {line}"


def test_pins_are_plain_versions() -> None:
    """No index, no local build and no link: the same file serves every machine."""
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.]*", line), line


@pytest.mark.parametrize("target", TARGETS)
def test_make_knows_its_targets(target: str) -> None:
    dry = subprocess.run(["make", "--dry-run", target], cwd=ROOT, capture_output=True, text=True, check=False)
    assert dry.returncode == 0, dry.stderr
    assert "python" in dry.stdout


def test_make_names_what_is_missing_when_there_is_no_python(tmp_path: Path) -> None:
    run = subprocess.run(
        ["make", "up", f"VENV={tmp_path / 'venv'}", "PYTHON="], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert run.returncode != 0
    assert "No Python of at least 3.11 was found" in run.stderr
    assert not (tmp_path / "venv").exists()
