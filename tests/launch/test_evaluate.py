"""The command on three synthetic routes and a model with random parameters."""

import dataclasses
import functools
import json

import jax
import numpy as np
import pytest

from data_pipeline import loader, normalize, options, windows
from drivemoe_jax import build, datasets
from launch import evaluate, report
from tests.data_pipeline import fixtures
from tests.evaluators.test_side_by_side import evaluation
from tests.models import tiny

CONFIG = dict(prompt_ids=(2, 5), flow=dict(
    steps=2, clip=1.0, noise_scale=1.0), data=dict(
    on_bad_record="fail", skip_cap=0.001, ram_budget_gb=0.1, workers=1,
    official_parity=False,
    **dataclasses.asdict(options.Options())))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  """(workdir, its windows, a Run) as training would leave them."""
  workdir = tmp_path_factory.mktemp("run")
  root = workdir / "data" / "routes"
  names = [fixtures.NAME.format(i) for i in range(3)]
  for name in names:
    fixtures.write_route(root, name, frames=14, annotate=functools.partial(
        fixtures.frame, turn=0.08))
    fixtures.write_labels(
        root / "labels", name, ["NULL", "CAM_FRONT_LEFT"] * 7,
        ["NORMAL", "OVERTAKING"] * 7)
  data = windows.collect(str(root), str(root / "labels"), names, horizon=4)
  model = tiny.model(layers=3, vision_layers=1, num_views=5, history=5,
                     proprio_dim=10)
  rng = np.random.default_rng(0)
  shapes = jax.eval_shape(
      lambda: model.init(jax.random.key(0), **tiny.inputs(model)))["params"]
  params = jax.tree.map(
      lambda p: 0.3 * rng.standard_normal(p.shape, np.float32), shapes)
  (workdir / "config.json").write_text(json.dumps(CONFIG))
  (workdir / "metrics.jsonl").write_text('{"step": 0, "loss": 1.0}\n')
  return workdir, data, build.Run(
      build.from_json(CONFIG), model, params, {}, normalize.compute(data), 9)


@pytest.fixture
def command(run, monkeypatch):
  """evaluate.main on the run, with its windows as both splits."""
  workdir, data, trained = run
  monkeypatch.setattr(build, "load_run", lambda workdir, step: trained)
  monkeypatch.setattr(datasets, "windows", lambda config, workdir, split: data)
  return lambda *args: evaluate.main(["--workdir", str(workdir), *args])


def test_it_scores_writes_and_says_so(run, command, capsys):
  workdir, data, _ = run
  assert command("--batch-size", "8") == 0
  said = capsys.readouterr().out
  for line in ("evaluate: step 9, 30 val windows of 3 routes",
               "camera router:", "m vs constant velocity",
               "m vs ego-state-only MLP", "with shuffled images"):
    assert line in said
  scores = json.loads((workdir / "evaluation.json").read_text())
  assert scores["n"] == 30 and scores["flow_steps"] == 2
  assert scores["routers"]["camera"]["n"] == 30
  assert {"open_loop", "yardsticks", "shuffled_images", "definitions"} <= set(
      scores)
  assert "avg_l2" not in scores["open_loop"]
  saved = np.load(workdir / "predictions.npz")
  assert saved["pred"].shape == (30, 4, 2)
  assert str(saved["data_root"]) == "data/routes"
  np.testing.assert_allclose(saved["gt"], data.action, atol=1e-6)
  assert not list(workdir.glob("*.part"))
  assert report.main(["--workdir", str(workdir)]) == 0


def test_json_on_standard_output_is_nothing_else(command, capsys):
  assert command("--json", "-", "--limit", "6", "--batch-size", "8") == 0
  assert json.loads(capsys.readouterr().out)["n"] == 6


def test_parity_augments_what_is_evaluated(run, command, monkeypatch):
  asked = []

  def eval_batches(*args, **kwargs):
    asked.append((kwargs["augment"], kwargs["tf_shared_seed"]))
    return real(*args, **kwargs)

  real = loader.eval_batches
  monkeypatch.setattr(loader, "eval_batches", eval_batches)
  config = run[2].config
  for parity in (False, True):
    asked.clear()
    config.data.official_parity = parity
    assert command("--limit", "4", "--batch-size", "4") == 0
    assert set(asked) == {(parity, parity)}
  config.data.official_parity = False


@pytest.mark.parametrize("flag", ["--batch-size", "--steps", "--limit"])
def test_counts_must_be_positive(command, capsys, flag):
  assert command(flag, "0") == 2
  assert f"E-CONFIG: {flag} 0" in capsys.readouterr().err


def test_the_noise_of_plans_is_the_runs_or_the_flags(run, command, capsys):
  def plans(*flags):
    assert command("--limit", "6", "--batch-size", "8", *flags) == 0
    scores = json.loads((run[0] / "evaluation.json").read_text())
    return scores["noise_scale"], np.load(run[0] / "predictions.npz")["pred"]

  scale, sampled = plans()
  assert scale == 1.0
  scale, quiet = plans("--noise-scale", "0")
  assert scale == 0.0 and np.abs(quiet - sampled).max() > 1e-3
  np.testing.assert_array_equal(
      plans("--noise-scale", "0", "--seed", "1")[1], quiet)
  capsys.readouterr()
  assert command("--noise-scale", "1.5") == 2
  assert "--noise-scale 1.5: must lie between 0 and 1" in (
      capsys.readouterr().err)


def test_two_evaluations_are_compared_without_opening_a_run(
    tmp_path, capsys):
  paths = []
  for offset, count in ((1.0, 4), (0.5, 4), (0.5, 3)):
    paths.append(str(tmp_path / f"{len(paths)}.json"))
    with open(paths[-1], "w", encoding="utf-8") as file:
      json.dump(evaluation(offset, windows=count), file)
  assert evaluate.main(["--compare", *paths[:2], "--json", "-"]) == 0
  found = json.loads(capsys.readouterr().out)
  assert found["metrics"]["avg_l2"]["difference"] == -0.5
  assert evaluate.main(["--compare", *paths[1:]]) == 3
  assert "E-DATA: other windows" in capsys.readouterr().err


def test_it_wants_a_run_or_two_evaluations(capsys):
  with pytest.raises(SystemExit):
    evaluate.main([])
  assert "--workdir --compare" in capsys.readouterr().err
