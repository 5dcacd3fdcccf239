"""Official hyper-parameters, Table 3 by argument, and the dry run's counts."""

import functools
import json

import pytest

from data_pipeline import errors, prompt, spec
from drivemoe_jax import build, inventory
from launch import cli, train

ALL = ("common", "tiny", "mini", "drive_pi0", "stage1", "stage2", "open_loop",
       "mid", "nuscenes")
WINDOWS = 225348  # Bench2Drive's training windows at horizon 10


def load(name, *overrides):
  file, _, arg = name.partition(":")
  return cli.load_config(f"configs/{file}.py" + (arg and f":{arg}"), overrides)


@pytest.mark.parametrize("name, lr, cycle, batch, updates", [
    ("drive_pi0", 5e-5, 10_000_000, 1024, 2640),
    ("stage1", 5e-5, 45000, 128, 21120),
    ("stage2", 5e-6, 22500, 128, 10560)])
def test_official_schedules(name, lr, cycle, batch, updates):
  c = load(name)
  assert c.optim.action_lr == c.optim.vlm_lr == lr
  assert (c.optim.min_lr, c.optim.warmup_updates) == (1e-8, 200)
  assert c.optim.cycle_updates == cycle
  assert (c.global_batch, c.per_device_batch) == (batch, None)
  assert build.updates(c, WINDOWS) == updates
  assert c.model.dtype == "bfloat16" and c.model.horizon == 10


def test_official_losses():
  weights = lambda c: (c.loss.action, c.loss.camera, c.loss.skill)
  assert weights(load("stage1")) == (1.0, 10.0, 10.0)
  assert weights(load("stage2")) == (1.0, 5.0, 5.0)
  assert load("stage1").camera_choice == "label"
  assert load("stage2").camera_choice == "straight_through"
  assert load("stage2").stage == 2 and load("stage2").init_from


def test_the_releases_numbers_are_the_same_wherever_they_stand():
  c = load("common")
  assert c.loss.camera_counts == spec.CAMERA_COUNTS
  assert c.loss.skill_counts == spec.SKILL_COUNTS
  assert c.prompt_ids == prompt.OFFICIAL_IDS


@pytest.mark.parametrize("name", [
    "tiny:res=48", "mini:res=48", "nuscenes:supervision=labels"])
def test_an_argument_that_would_change_nothing_is_refused(name):
  with pytest.raises(errors.ConfigError, match=name.split(":")[1][:3]):
    load(name)


def test_open_loop_reaches_two_seconds():
  # The first waypoint is now, so index 20 is 2.0 s at 10 Hz.
  for arg in ("", ":stage=2"):
    c = load("open_loop" + arg)
    assert c.model.horizon == 21
  assert c.stage == 2 and c.optim.action_lr == 5e-6


def test_small_configs_compute_in_float32():
  assert load("tiny").model.dtype == load("mid").model.dtype == "float32"
  assert load("tiny").save_every <= 200  # half a minute of work


def test_tiny_asks_less_of_routers_and_keeps_the_stages_apart():
  weights = lambda arg: tuple(load(f"tiny{arg}").loss[k]
                              for k in ("camera", "skill"))
  assert weights("") == (0.5, 0.5)
  assert weights(":stage=2") == (0.25, 0.25)
  assert weights(":supervision=none") == (0.0, 0.5)


def test_mini_trains_longer_than_tiny_on_more_of_every_skill():
  tiny, mini = load("tiny"), load("mini:stage=2,routing=token")
  assert (mini.stage, mini.model.routing) == (2, "token")
  assert load("mini").total_updates > tiny.total_updates
  assert mini.data.record.train_seeds > tiny.data.record.train_seeds
  assert tuple(mini.data.record.scenarios) == ("all",)
  again = load("mini:round=2,routing=token")
  assert again.data.record.learner and again.model.routing == "token"
  first = load("mini").data.record
  assert again.data.record.first_seed >= first.train_seeds  # none twice
  # The rate is low at the end, not over it.
  for c in (mini, load("mini"), again):
    assert (0 <= c.optim.cycle_updates - c.total_updates
            <= c.optim.warmup_updates)


# Paper, Table 3: front and previous front always; what else the model sees.
TABLE_3 = [
    ("views=front", (), 2), ("views=front+front_left", (0,), 3),
    ("views=front+front_right", (1,), 3), ("views=front+back", (2,), 3),
    ("views=front+back_left", (3,), 3), ("views=front+back_right", (4,), 3),
    ("views=front+front_left+front_right", (0, 1), 4),
    ("views=front+front_left+front_right+back", (0, 1, 2), 5),
    ("views=front+front_left+front_right+back+back_right", (0, 1, 2, 4), 6),
    ("supervision=none", "dynamic", 3), ("", "dynamic", 3)]


@pytest.mark.parametrize("arg, view, images", TABLE_3)
def test_table_3_by_argument(arg, view, images):
  c = load("stage1:" + arg if arg else "stage1")
  assert c.model.view == view
  assert build.model(c).tokens == images * 256 + 20
  assert (c.loss.camera > 0) == (arg == "")
  if arg == "supervision=none":  # only the plan's loss can teach the router
    assert c.camera_choice == "straight_through"


def test_further_arguments():
  c = load("stage1:routing=token,skill=label,adaptive=adaLN-Zero,res=448")
  assert (c.model.routing, c.skill_choice) == ("token", "label")
  assert (c.model.adaptive, c.model.image_size) == ("adaLN-Zero", 448)
  c = load("tiny:stage=2,routing=token")
  assert (c.stage, c.model.routing) == (2, "token")


@pytest.mark.parametrize("name, part", [
    ("stage1:view=front", "views=dynamic"), ("stage1:res=big", "int wanted"),
    ("stage1:views=front+top", "front_left"), ("stage1:views", "views=dynamic"),
    ("stage1:supervision=some", "labels or none"),
    ("stage2:views=front+back", "camera router"),
    ("drive_pi0:res=448", "res=448"), ("nothing", "no config file")])
def test_a_wrong_argument_is_explained(name, part):
  with pytest.raises(errors.ConfigError, match="E-CONFIG") as caught:
    load(name)
  assert part in str(caught.value)


def test_nothing_is_an_empty_text_where_the_key_holds_a_text():
  config = cli.load_config("configs/tiny.py", ["--config.keep_best="])
  assert config.keep_best == ""


def test_an_unknown_key_gets_the_nearest_name():
  with pytest.raises(errors.ConfigError, match="'global_batch'"):
    load("tiny", "--config.global_bach=16")
  with pytest.raises(errors.ConfigError, match="'optim.action_lr'"):
    load("tiny", "--config.optim.actionlr=1e-3")
  with pytest.raises(errors.ConfigError, match=r"holds \d+ .int."):
    load("tiny", "--config.global_batch=many")
  c = load("tiny", "--config.optim.action_lr=1e-4", "--config.total_updates=7")
  assert (c.optim.action_lr, c.total_updates) == (1e-4, 7)


@pytest.mark.parametrize("name", ALL)
def test_every_config_survives_json(name):
  c = load(name)
  again = build.from_json(json.loads(json.dumps(c.to_dict())))
  assert build.flatten(again) == build.flatten(c)


@functools.cache
def described(name):
  return inventory.describe(load(name))


# The released model's own count, component by component.
DRIVEMOE = {
    "embed_tokens": 526_778_368, "projector": 2_361_344,
    "vision_tower": 412_442_352, "vlm": 1_981_882_368,
    "proprio_only": 69_215_232, "action_mixture": 663_786_496,
    "action_encoder": 3_150_848, "action_decoder": 2_050,
    "proprio_encoder": 11_264, "action_router": 7_169,
    "camera_router": 19_159_429, "view_embeddings": 10_240}
DRIVE_PI0 = {
    "embed_tokens": 526_778_368, "projector": 2_361_344,
    "vision_tower": 412_442_352, "vlm": 1_981_882_368,
    "action_mixture": 311_464_960, "action_encoder": 3_150_848,
    "action_decoder": 2_050, "proprio_encoder": 11_264}


@pytest.mark.parametrize(
    "name, rows, unique, trainable, action, vlm", [
        ("stage1", DRIVEMOE, 3_678_807_160, 3_046_644_856, 736_173_059,
         2_310_471_797),
        ("drive_pi0", DRIVE_PI0, 3_238_093_554, 2_605_931_250, 314_629_122,
         2_291_302_128)])
def test_the_dry_run_counts_as_the_release(name, rows, unique, trainable,
                                           action, vlm):
  d = described(name)
  assert d["parameters"] == rows
  assert d["unique"] == sum(rows.values()) == unique
  assert d["trainable"] == trainable
  assert d["groups"] == {"action": action, "vlm": vlm}
  assert d["experts"] == ({"skill": 352_321_536, "shared": 50_331_648}
                          if name == "stage1" else {"skill": 0, "shared": 0})
  # Two float32 moments of what is trained and of the half of one leaf that
  # stays (256 x 2048), and a few counters.
  moments = 8 * (trainable + 256 * 2048)
  assert moments <= d["optimiser_bytes"] < moments + 100


def test_options_that_save_optimiser_memory():
  full = described("stage1")["optimiser_bytes"]
  half = inventory.describe(load(
      "stage1", "--config.optim.first_moment_dtype=bfloat16"))
  assert abs(half["optimiser_bytes"] / full - 0.75) < 1e-3
  small = inventory.describe(load("stage1", "--config.optim.kind=adafactor"))
  assert small["optimiser_bytes"] / full < 0.27


def test_the_dry_run_prints_and_writes_json(capsys):
  config = "configs/tiny.py"
  assert train.main(["--config", config, "--dry-run", "--json", "-"]) == 0
  d = json.loads(capsys.readouterr().out)
  assert d["mesh"] == {"data": 1, "fsdp": 1, "expert": 1}
  assert d["unique"] == sum(d["parameters"].values())
  assert d["config"]["global_batch"] == load("tiny").global_batch
  assert train.main(["--config", config, "--dry-run"]) == 0
  out = capsys.readouterr().out
  assert f"{d['unique']:,}" in out and "global_batch" in out


def test_a_dry_run_may_describe_a_machine_that_is_not_there():
  d = inventory.describe(load("stage1", "--config.mesh.fsdp=16"))
  assert d["mesh"] == {"data": 1, "fsdp": 16, "expert": 1}
  # 13.7 GiB of parameters over 16, and 23 M of them on every chip.
  *_, parameters, optimiser = d["placement"]
  assert "13.705 GiB in all, 0.9" in parameters
  assert "22.703 GiB in all, 1.58" in optimiser
  with pytest.raises(errors.MeshError, match="divisible by fsdp = 26"):
    inventory.describe(load("stage1", "--config.mesh.fsdp=26",
                            "--config.global_batch=208"))


@pytest.mark.parametrize("arguments, told", [
    (["--config.global_batch=19", "--config.mesh.data=2",
      "--config.mesh.fsdp=2"],
     "E-MESH: global_batch 19 is not divisible by data*fsdp*expert = 4. "
     "Nearest legal: 16 or 20."),
    (["--config.mesh.data=-1", "--config.mesh.fsdp=3"],
     "E-MESH: mesh data*fsdp*expert = -1*3*1"),
    (["--config.model.top_k=9"], "E-CONFIG: config.model: top_k 9"),
    (["--config.optim.kind=sgd"], "E-CONFIG: config.optim: unknown"),
    (["--json", "-"], "E-CONFIG"), ([], "E-CONFIG: --workdir")])
def test_mistakes_end_in_one_line_and_status_2(arguments, told, capsys):
  dry = [] if "--json" in arguments or not arguments else ["--dry-run"]
  status = train.main(["--config", "configs/tiny.py", *dry, *arguments])
  assert status == 2
  err = capsys.readouterr().err
  assert told in err and err.count("\n") == 1
