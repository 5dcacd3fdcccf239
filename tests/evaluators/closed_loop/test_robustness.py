"""A sweep's table and plot."""

from PIL import Image

from data_pipeline.miniworld import disturb
from drivemoe_jax.evaluators.closed_loop import robustness
from drivemoe_jax.report import robustness as plots


def part(value):
  score = {"value": value, "low": value - 2.0, "high": value + 3.0}
  return {"driving_score": score, "success_rate": score, "episodes": 4}


def sweep():
  return robustness.gather(part(90.0), {
      (kind, level): part(90.0 - 10 * level)
      for kind, level in robustness.SWEEP})


def test_every_kind_begins_undisturbed_and_grows():
  found = sweep()
  assert set(found) == set(disturb.LEVELS)
  for kind, rows in found.items():
    assert [row["severity"] for row in rows] == [0, 1, 2, 3]
    assert rows[0]["value"] is None
    assert [row["value"] for row in rows[1:]] == list(disturb.LEVELS[kind])
    assert [row["driving_score"]["value"] for row in rows] == [
        90.0, 80.0, 70.0, 60.0]


def test_the_table_has_a_line_per_kind():
  lines = robustness.table(sweep()).splitlines()
  assert len(lines) == 1 + len(disturb.LEVELS)
  assert "90.0 / 90.0" in lines[1] and "60.0 / 60.0" in lines[1]


def test_the_plot_is_a_picture(tmp_path):
  plots.plot(sweep(), str(tmp_path / "sweep.png"))
  with Image.open(tmp_path / "sweep.png") as image:
    assert image.size[0] > 600 and len(image.getcolors(1 << 24)) > 20


def test_an_interval_that_misses_its_value_by_rounding_is_drawn(tmp_path):
  found = sweep()
  found["gps"][1]["driving_score"] = {
      "value": 51.594645642857145, "low": 51.59464564285715,
      "high": 51.59464564285714}
  plots.plot(found, str(tmp_path / "sweep.png"))
  assert (tmp_path / "sweep.png").exists()
