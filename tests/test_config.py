"""Claims about configurations: presets, files, and errors a person can act on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from gistbench.config import DataConfig, RunConfig, TrainConfig
from gistbench.config_files import load_preset, load_yaml, merge, preset_names, validate
from gistbench.errors import UsageError
from gistbench.models.architectures import settled
from gistbench.training import focus

SHIPPED = Path(__file__).parents[1] / "gistbench" / "checkpoints"


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_is_a_valid_configuration(name: str) -> None:
    config = validate(TrainConfig, load_preset(name), name)
    assert config.description
    assert validate(TrainConfig, config.model_dump(mode="json"), name) == config


def test_the_seed_recipe_is_the_seeds() -> None:
    """Setting by setting."""
    config = validate(TrainConfig, load_preset("gist-global-10"), "preset")
    assert (config.base.name, config.base.quantization) == ("llama-3-8b", "nf4")
    assert config.adapter.num_gists == 10
    assert config.adapter.modules_to_save == ("embed_tokens", "lm_head")
    assert config.data.num_samples == 100
    assert config.data.context_tokens == 4925
    assert config.training.max_steps == 500
    assert config.training.optim == "paged_adamw_8bit"
    assert config.training.gradient_checkpointing


def test_the_fair_upper_bound_differs_from_the_gist_recipe_in_its_objective_alone() -> None:
    gist, full = (load_preset(name) for name in ("gist-10", "full-10"))
    gist, full = (validate(TrainConfig, fields, "preset").model_dump() for fields in (gist, full))
    differing = {name for name in gist if gist[name] != full[name]}
    assert differing == {"name", "description", "objective"}
    assert full["objective"] == "full"


def test_the_recipe_for_one_gist_is_what_the_shipped_checkpoint_ran() -> None:
    log = (SHIPPED / "smollm2-135m-gist-1" / "training.md").read_text(encoding="utf-8")
    ran = validate(TrainConfig, yaml.safe_load(log.split("```yaml")[1].split("```")[0]), "log")
    preset = validate(TrainConfig, load_preset("gist-1"), "preset")
    preset = settled(preset, "llama")
    for part in ("base", "adapter", "data", "training"):
        ours, theirs = getattr(preset, part).model_dump(), getattr(ran, part).model_dump()
        differing = {name for name in ours if ours[name] != theirs[name]}
        # How many prepare the samples, when a state is saved, and which kernels compute.
        assert differing <= {"num_workers", "save_steps", "save_total_limit", "use_liger_kernel"}


def test_as_many_tasks_may_be_mixed_as_rows_can_be_divided_among() -> None:
    """`data.focus` gives each at least one of so many rows."""
    most = focus.SLOTS
    several = validate(DataConfig, {"tasks": ["niah_passkey"] * most}, "data")
    assert focus.divide(0.5, [0.0] * len(several.tasks)) == [1] * most
    with pytest.raises(UsageError, match="tasks"):
        validate(DataConfig, {"tasks": ["niah_passkey"] * (most + 1)}, "data")


def test_an_unknown_preset_suggests_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean 'gist-10'"):
        load_preset("gst-10")


def write(folder: Path, text: str) -> Path:
    path = folder / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("name: a\ntraining: {max_steps: 3\n", 3),
        ("name: a\nbase:\n  name: b\n bad: c\n", 4),
        ("name: [1, 2\nbase: x\n", 2),
        ("name: a\n\tbase: b\n", 2),
        ('name: "a\n', 2),
    ],
)
def test_broken_yaml_names_its_line(tmp_path: Path, text: str, line: int) -> None:
    path = write(tmp_path, text)
    with pytest.raises(UsageError) as caught:
        load_yaml(path)
    assert str(caught.value).startswith(f"{path} line {line}, column ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["- a\n- b\n", "just words\n", "3\n"])
def test_yaml_that_is_no_configuration_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError, match="expected fields and values"):
        load_yaml(write(tmp_path, text))


def test_a_missing_file_and_a_binary_file_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        load_yaml(tmp_path / "none.yaml")
    path = tmp_path / "binary.yaml"
    path.write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(UsageError, match="not a YAML text file"):
        load_yaml(path)


def test_an_empty_file_is_a_configuration_without_fields(tmp_path: Path) -> None:
    assert load_yaml(write(tmp_path, "# nothing\n")) == {}


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"trainning": {}}, "unknown field 'trainning', did you mean 'training'?"),
        ({"training": {"max_step": 3}}, "'training.max_step', did you mean 'max_steps'?"),
        ({"training": {"max_steps": 0}}, "training.max_steps: input should be greater than or"),
        ({"training": {"max_steps": "many"}}, "got 'many'"),
        ({"data": {"replay": 1.0}}, "data.replay: input should be less than 1, got 1.0"),
        ({"base": {"quantization": "int8"}}, "base.quantization: input should be 'none' or 'nf4'"),
        ({"training": 3}, "training: "),
    ],
)
def test_a_wrong_field_is_named_with_its_value_and_the_nearest_name(
    fields: dict[str, Any], said: str
) -> None:
    with pytest.raises(UsageError) as caught:
        validate(TrainConfig, fields, "mine.yaml")
    assert str(caught.value).startswith("mine.yaml: ")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_overrides_win_field_by_field() -> None:
    below = {"name": "a", "training": {"max_steps": 3, "seed": 1}, "data": {"tasks": ["x", "y"]}}
    above = {"training": {"max_steps": 5}, "data": {"tasks": ["z"]}}
    assert merge(below, above) == {
        "name": "a",
        "training": {"max_steps": 5, "seed": 1},
        "data": {"tasks": ["z"]},
    }
    assert below["training"] == {"max_steps": 3, "seed": 1}


@pytest.mark.parametrize("kind", [TrainConfig, RunConfig])
def test_defaults_survive_json(kind: type[Any]) -> None:
    assert kind.model_validate_json(kind().model_dump_json()) == kind()


@pytest.mark.parametrize("written", ["256,1024", ("256,1024",), [256, 1024], ("256", "1024")])
def test_lengths_are_numbers_however_they_are_separated(written: Any) -> None:
    config = RunConfig(context_tokens=512, lengths=written)
    assert config.lengths == (256, 1024)
    assert config.all_lengths == (512, 256, 1024)


@pytest.mark.parametrize("written", ["256;1024", "long", "25.6", "-4"])
def test_lengths_that_are_no_numbers_are_refused(written: str) -> None:
    with pytest.raises(UsageError, match="lengths are whole numbers of tokens"):
        validate(RunConfig, {"lengths": written}, "command line")
