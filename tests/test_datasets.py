"""What the data keys of a config do to samples, statistics and order."""

import dataclasses
import itertools
import math

import numpy as np
import pytest

from data_pipeline import errors, normalize, options, order
from drivemoe_jax import build, datasets
from drivemoe_jax.evaluators import yardsticks
from launch import cli
from tests.data_pipeline import fixtures


@pytest.fixture(scope="module")
def routes(tmp_path_factory):
  """Three routes across north; the second has a frame without compass."""
  root = tmp_path_factory.mktemp("routes")
  for i in range(3):
    def annotate(t, i=i):
      lost = (i, t) == (1, 4)
      yaw = 0.02 * (t - 12)    # from below north to above it
      return fixtures.frame(t - 12, theta=float("nan") if lost else (
          yaw % math.tau))
    skills = ["NORMAL"] * 22 + ["PARKING_EXIT"] * 4
    fixtures.write_route(root, fixtures.NAME.format(i), frames=26,
                         labels=False, annotate=annotate)
    fixtures.write_labels(root / "labels", fixtures.NAME.format(i),
                          ["NULL"] * 26, skills)
  (root / "val.txt").write_text(fixtures.NAME.format(2) + "\n")
  return root


def load(routes, **changes):
  values = {"data.root": routes, "data.labels_root": routes / "labels",
            "data.val_list": routes / "val.txt", "data.workers": 1,
            "global_batch": 8, "per_device_batch": 8, "model.image_size": 28}
  values |= {key.replace("__", "."): x for key, x in changes.items()}
  return cli.load_config("configs/tiny.py", [
      f"--config.{key}={x}" for key, x in values.items()])


def windows(config, tmp_path):
  return datasets.windows(config, str(tmp_path), "train")


def test_a_file_that_nobody_named_is_not_this_run_s_statistics(
    routes, tmp_path, monkeypatch):
  config = load(routes)
  train = datasets.windows(config, str(tmp_path), "train")
  monkeypatch.chdir(tmp_path)
  normalize.OFFICIAL_H10.save("statistics.json")  # as launch.normalize would
  found = datasets.statistics(config, str(tmp_path / "run"), train, save=False)
  assert found == normalize.compute(train)


@pytest.mark.parametrize("key, value, words", [
    ("camera_choice", "labels", "known: label, straight_through"),
    ("skill_choice", "x", "router"), ("loss.skill_level", "token", "per_token"),
    ("flow.time_sampling", "normal", "uniform"), ("save_every", 0, "1 or more"),
    ("log_every", 0, "1 or more"), ("data.workers", 0, "1 or more"),
    ("max_skipped", 0, "1 or more"), ("optim.clip_norm", 0, "above 0"),
    ("global_batch", "null", "is null"), ("model.view", "front", "dynamic"),
    ("data.keyframes", "nan", "must be 0 to"),
    ("data.keyframes", "-1", "must be 0 to"),
    ("data.skill_balance", "1.5", "must be 0 to 1")])
def test_a_setting_without_a_meaning_is_refused(routes, key, value, words):
  with pytest.raises(errors.ConfigError, match=words) as caught:
    build.model(load(routes, **{key: value, "model.image_size": 24}))
  assert key.rpartition(".")[2] in str(caught.value)


def test_a_view_that_is_none_of_the_candidates_is_refused(routes):
  config = load(routes, model__image_size=24).unlock()
  with config.model.ignore_type():
    config.model.view = (5,)
  with pytest.raises(errors.ConfigError, match="0 to 4"):
    build.model(config)


@pytest.mark.parametrize("changes, words", [
    (dict(model__skill_experts=5), "skill_experts 5: .* labels go to 6; 7"),
    (dict(model__num_views=3), "num_views 3: the data has 5"),
    (dict(model__proprio_dim=9), "proprio_dim 9: the data has 10"),
    (dict(model__action_dim=3), "action_dim 3: the data has 2"),
    (dict(loss__skill_counts="[1, 1, 1]"), "holds 3 numbers.* 7 classes"),
    (dict(data__labels_root=""), "no camera labels; give data.labels_root"),
    (dict(data__labels_root="", loss__camera=0, camera_choice="argmax"),
     "no skill labels"),
    (dict(data__labels_root="", loss__camera=0, camera_choice="argmax",
          loss__skill=0, skill_choice="label"), "skill_choice 'label'")])
def test_a_model_that_does_not_fit_the_data_is_refused(routes, tmp_path,
                                                       changes, words):
  config = load(routes, **changes)
  with pytest.raises(errors.ConfigError, match=words):
    datasets.check_fits(config, windows(config, tmp_path))


@pytest.mark.parametrize("changes", [
    {}, dict(data__labels_root="", loss__camera=0, loss__skill=0,
             camera_choice="straight_through")])
def test_labels_that_nobody_asks_for_may_be_absent(routes, tmp_path, changes):
  config = load(routes, **changes)
  datasets.check_fits(config, windows(config, tmp_path))


def test_a_model_without_routers_asks_for_no_labels(routes, tmp_path):
  config = load(routes, data__labels_root="", model__moe_layers=0,
                skill_choice="label").unlock()
  with config.model.ignore_type():
    config.model.view = ()
  datasets.check_fits(config, windows(config, tmp_path))


def test_one_switch_sets_every_option_as_the_release(routes):
  assert datasets.options(load(routes)) == options.Options()
  assert datasets.options(
      load(routes, data__official_parity=True)) == options.OFFICIAL


@pytest.mark.parametrize("name", [
    f.name for f in dataclasses.fields(options.Options)])
def test_every_option_has_its_key(routes, name):
  theirs = {"nan_heading": "zero"}.get(name) or not getattr(
      options.Options(), name)
  got = datasets.options(load(routes, **{f"data__{name}": theirs}))
  assert got == dataclasses.replace(options.Options(), **{name: theirs})


def test_parity_reaches_the_samples(routes, tmp_path):
  ours = windows(load(routes), tmp_path)
  theirs = windows(load(routes, data__official_parity=True), tmp_path)
  assert len(ours) == len(theirs) == 2 * (26 - 10)
  # Across north the release's past headings jump; without compass (frame 4
  # of the second route) it turns the world by nothing instead of by yaw.
  assert abs(ours.proprio[..., 7]).max() < 0.2
  assert abs(theirs.proprio[:16, :, 7]).max() > 6
  lost = 16 + 4
  assert abs(theirs.action[lost] - ours.action[lost]).max() > 0.1
  np.testing.assert_array_equal(theirs.action[lost + 1], ours.action[lost + 1])


@pytest.mark.parametrize("horizon", [10, 20, 21])
@pytest.mark.parametrize("drop", [False, True])
def test_every_horizon_gets_batches_of_its_length(routes, tmp_path, horizon,
                                                  drop):
  config = load(routes, model__horizon=horizon, data__drop_current_point=drop)
  train = windows(config, tmp_path)
  assert len(train) == 2 * (26 - horizon - drop)
  stats = datasets.statistics(config, str(tmp_path), train)
  assert (stats.horizon, stats.drop_current_point) == (horizon, drop)
  batch = next(datasets.train_batches(config, train, stats, 0, None))
  assert batch["action"].shape == (8, horizon, 2)


def test_the_releases_numbers_by_name(routes, tmp_path):
  config = load(routes, data__statistics="official")
  train = windows(config, tmp_path)
  got = datasets.statistics(config, str(tmp_path), train)
  assert got == normalize.OFFICIAL_H10
  own = datasets.statistics(config, str(tmp_path), train)
  assert own == got
  other = load(routes)
  assert datasets.statistics(other, str(tmp_path), train, save=False) == got
  with pytest.raises(errors.DataError, match="other statistics; remove it"):
    datasets.statistics(other, str(tmp_path), train, own=False)


def test_numbers_that_are_stated_must_be_there(routes, tmp_path):
  """Though the run that it starts from has some."""
  first, second = tmp_path / "first", tmp_path / "second"
  train = windows(load(routes), tmp_path)
  for folder in (first, second):
    folder.mkdir()
  normalize.OFFICIAL_H10.save(str(first / "statistics.json"))
  given = datasets.statistics(load(routes, init_from=first), str(second), train)
  assert given == normalize.OFFICIAL_H10
  config = load(routes, init_from=first, data__statistics="typo.json")
  datasets.statistics(config, str(second), train)  # it has its own by now
  with pytest.raises(errors.DataError, match="no statistics at typo.json"):
    datasets.statistics(config, str(second), train, own=False)


def test_numbers_of_another_horizon_need_the_option(routes, tmp_path):
  changes = dict(model__horizon=20, data__statistics="official")
  config = load(routes, **changes)
  train = windows(config, tmp_path)
  with pytest.raises(errors.DataError, match="official.*horizon 10.*20"):
    datasets.statistics(config, str(tmp_path), train)
  config = load(routes, data__statistics_any_horizon=True, **changes)
  got = datasets.statistics(config, str(tmp_path), train)
  assert got.horizon == 20 and got.p99 == normalize.OFFICIAL_H10.p99
  # As the release reuses them in a run of 20: from now on they are its own.
  assert normalize.load(str(tmp_path / "statistics.json"), 20) == got


def test_statistics_of_other_plans_are_refused(routes, tmp_path):
  path = tmp_path / "elsewhere.json"
  normalize.compute(windows(load(routes), tmp_path)).save(str(path))
  config = load(routes, data__statistics=path, data__drop_current_point=True)
  with pytest.raises(errors.DataError, match="elsewhere.*drop_current_point"):
    datasets.statistics(config, str(tmp_path), windows(config, tmp_path))


def skills(config, train, tmp_path):
  stats = normalize.compute(train)
  batches = datasets.train_batches(
      config, train, stats, 0, datasets.weights(config, str(tmp_path), train))
  return np.concatenate([b["skill"] for b in itertools.islice(batches, 4)])


def test_rare_skills_may_be_balanced(routes, tmp_path):
  config = load(routes, data__skill_balance=1.0, model__horizon=2)
  train = windows(config, tmp_path)  # 48 samples, 4 of them PARKING_EXIT
  got = np.bincount(skills(config, train, tmp_path), minlength=7)
  assert got[1] > 8 and got[1] + got[6] == 32
  plain = np.bincount(skills(load(routes, model__horizon=2), train, tmp_path),
                      minlength=7)
  assert plain[1] <= 4


@pytest.mark.parametrize("whole", [False, True])
def test_only_training_may_ask_for_a_whole_past(routes, tmp_path, whole):
  config = load(routes, data__whole_past=whole)
  first = {split: datasets.windows(config, str(tmp_path), split).frame.min()
           for split in ("train", "val")}
  assert first == {"train": 4 if whole else 0, "val": 0}


@pytest.mark.parametrize("balance", [0.0, 1.0])
def test_keyframes_weigh_windows_beside_their_skill(routes, tmp_path, balance):
  config = load(routes, data__keyframes=2.0, data__skill_balance=balance)
  train = windows(config, tmp_path)
  got = datasets.weights(config, str(tmp_path), train)
  expected = order.keyframes(yardsticks.surprise(train), 2.0).expected
  if balance:
    expected = expected * order.balanced(train.skill, balance).expected
  np.testing.assert_allclose(got.expected,
                             len(train) * expected / expected.sum())
  assert np.ptp(got.expected) > 0.1
  assert datasets.weights(load(routes), str(tmp_path), train) is None


def test_a_run_keeps_the_surprise_that_it_began_with(routes, tmp_path,
                                                     monkeypatch):
  """As a fit on another machine has other last bits, and here other numbers."""
  config = load(routes, data__keyframes=2.0)
  train = windows(config, tmp_path)
  deal = lambda **kw: datasets.weights(config, str(tmp_path), train,
                                       **kw).expected
  with pytest.raises(errors.CheckpointError, match="not share"):
    deal(fit=False)
  began = deal()
  elsewhere = np.linspace(0, 1, len(train))
  monkeypatch.setattr(yardsticks, "surprise", lambda windows: elsewhere)
  np.testing.assert_array_equal(deal(), began)
  np.testing.assert_array_equal(deal(fit=False), began)
  path = tmp_path / "surprise.npz"
  path.write_bytes(path.read_bytes()[:99])
  with pytest.raises(errors.CheckpointError, match="surprise.npz is broken"):
    deal()
  np.savez(path, surprise=began, windows="of other data")
  np.testing.assert_array_equal(
      deal(), order.keyframes(elsewhere, 2.0).expected)


def test_balance_without_labels_is_a_mistake(routes, tmp_path):
  config = load(routes, data__skill_balance=0.5, data__labels_root="")
  train = windows(config, tmp_path)
  with pytest.raises(errors.ConfigError, match="needs skill labels"):
    datasets.weights(config, str(tmp_path), train)
