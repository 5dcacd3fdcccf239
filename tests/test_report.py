"""The page holds everything, shows the right things, and refuses loudly."""

import base64
import html.parser
import json
import re

import numpy as np
import pytest
from PIL import Image

from data_pipeline import errors
from drivemoe_jax import report
from drivemoe_jax.evaluators import suite
from drivemoe_jax.evaluators.closed_loop import summary
from drivemoe_jax.report import drives, examples, projection, scenes, source
from launch import report as command
from tests.data_pipeline import prepared_folders
from tests.evaluators import worlds
from tests.evaluators.closed_loop import test_summary as drove


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
  """An evaluated run folder with its pictures; copy before breaking it."""
  workdir = tmp_path_factory.mktemp("run")
  of = worlds.windows(routes=4, frames=12)
  scores, arrays = suite.evaluate(
      worlds.sighted, worlds.loader(of, 16), of, of,
      to_metres=lambda action: 10 * action)
  scores |= {"step": 7, "split": "val", "flow_steps": 10, "seed": 0}
  (workdir / "evaluation.json").write_text(json.dumps(scores))
  np.savez(workdir / "predictions.npz", data_root="data/routes", **arrays)
  (workdir / "config.json").write_text(
      '{"model": {"layers": 3}, "note": "<b>"}')
  (workdir / "metrics.jsonl").write_text("\n".join(
      json.dumps({"step": s, "loss": 9.0 - s, "skill_accuracy": s / 8})
      for s in range(8)))
  picture = Image.new("RGB", (32, 18), "grey")
  for route in of.routes:
    for folder in projection.RIG.values():
      place = workdir / "data/routes" / route / "camera" / folder
      place.mkdir(parents=True)
      for frame in range(12):
        picture.save(place / f"{frame:05d}.jpg")
  return workdir


@pytest.fixture
def run(whole, tmp_path):
  """The same run folder by links: files may be replaced, not changed."""
  for path in whole.iterdir():
    (tmp_path / path.name).symlink_to(path)
  return tmp_path


class Outside(html.parser.HTMLParser):
  """Collects everything that a page would fetch or leave open."""

  def __init__(self):
    super().__init__()
    self.fetched, self.images, self.stack = [], 0, []

  def handle_starttag(self, tag, attributes):
    for name, value in attributes:
      if name in ("src", "href") and not value.startswith("data:image/"):
        self.fetched.append(value)
    self.images += tag == "img"
    if tag not in ("img", "meta"):
      self.stack.append(tag)

  def handle_endtag(self, tag):
    assert self.stack.pop() == tag


def test_the_page_is_whole_and_fetches_nothing(run, capsys):
  assert command.main(["--workdir", str(run), "--workdir", str(run)]) == 0
  text = (run / "report.html").read_text()
  page = Outside()
  page.feed(text)
  assert not page.fetched and not page.stack
  shown = int(re.search(r"(\d+) windows drawn", capsys.readouterr().out)[1])
  # Curves, errors over time, two confusion matrices, then one per window.
  assert page.images == 4 + shown and shown >= 4
  assert "not comparable with published Bench2Drive scores" in " ".join(
      text.split())
  assert "&lt;b&gt;" in text and "model.layers" in text
  assert "Driving in the miniworld" not in text  # nobody drove
  assert not list(run.glob("*.part"))


@pytest.mark.parametrize("name, remedy", [
    ("predictions.npz", "launch.evaluate"), ("evaluation.json",
                                             "launch.evaluate"),
    ("metrics.jsonl", "launch.train"), ("config.json", "train")])
@pytest.mark.parametrize("broken", [False, True])
def test_a_missing_or_broken_file_is_named(run, capsys, name, remedy, broken):
  (run / name).unlink()
  if broken:
    (run / name).write_text("{")
  assert command.main(["--workdir", str(run)]) == 3
  said = capsys.readouterr().err
  assert said.count("E-DATA") == 1 and name in said and remedy in said
  assert not (run / "report.html").exists()


def test_pictures_of_a_prepared_folder_are_found_too(tmp_path):
  made = prepared_folders.write_routes(tmp_path / "raw")
  prepared_folders.make(made, tmp_path / "run" / "ready")
  name = prepared_folders.NAMES[1]
  seen = {"data_root": "ready", "route": [name], "frame": [3]}
  found = source.read_pictures(str(tmp_path / "run"), seen, 0)
  side = prepared_folders.SIZE
  assert {p.shape for p in found.values()} == {(side, round(side * 16 / 9), 3)}
  raw = made.pixels(name, projection.RIG["Back"], 3, side)
  np.testing.assert_allclose(found["Back"].mean((0, 1)), raw.mean((0, 1)),
                             atol=2.0)


def test_a_missing_picture_is_named(run, capsys):
  predictions = dict(np.load(run / "predictions.npz"))
  (run / "predictions.npz").unlink()
  np.savez(run / "predictions.npz",
           **predictions | {"data_root": "elsewhere"})
  assert command.main(["--workdir", str(run)]) == 3
  said = capsys.readouterr().err
  assert "E-DATA" in said and re.search(
      r"elsewhere/TJunction_\w+/camera/rgb_\w+/\d{5}\.jpg", said)


def test_struck_out_windows_are_not_shown(run):
  predictions = dict(np.load(run / "predictions.npz"))
  predictions["valid"] = predictions["route"] == predictions["route"][-1]
  shown = [window for window, _ in examples.choose(predictions)]
  assert shown and predictions["valid"][shown].all()
  (run / "predictions.npz").unlink()
  np.savez(run / "predictions.npz",
           **predictions | {"valid": np.zeros(len(predictions["valid"]), bool)})
  with pytest.raises(errors.DataError, match="no valid window"):
    report.write([str(run)], str(run / "report.html"))


def test_examples_are_the_worst_and_the_good(whole):
  predictions = dict(np.load(whole / "predictions.npz"))
  predictions["pred"] = predictions["pred"].copy()
  skills = predictions["skill"]
  off = np.flatnonzero(skills == 6)[[3, 20]]
  predictions["pred"][off[0], 1:] += 5.0
  predictions["pred"][off[1], 1:] += 9.0
  chosen = {why: window for window, why in examples.choose(predictions)}
  assert chosen["Normal: the worst one"] == off[1]
  assert skills[chosen["Merging: a good one"]] == 0
  assert predictions["turns"][chosen["Merging: a good one"]]
  assert examples.choose(predictions) == examples.choose(predictions)
  assert len(set(chosen.values())) == len(chosen)


def test_ground_points_land_where_the_rig_says():
  # 10 m before the front camera (x = 0.80): half of the 70 degrees is 7.002 m
  # to the side; the ground is 1.60 m below, 1.60 / 7.002 of half a width.
  side = 10 * np.tan(np.deg2rad(35))
  at = projection.project([[10.8, 0], [10.8, side], [-5, 0]], "Front")
  down = 0.5 + 0.8 / side * 16 / 9
  np.testing.assert_allclose(at[:2], [[0.5, down], [1, down]])
  assert np.isnan(at[2]).all()


def test_the_ground_is_seen_by_the_camera_that_faces_it():
  pictures = {name: np.full((18, 32, 3), index, np.uint8)
              for index, name in enumerate(projection.RIG)}
  view = projection.ground_view(pictures, (-10, 10, 10), pixels_per_metre=5)
  assert view.shape == (100, 100, 3)
  names = list(projection.RIG)
  at = lambda ahead, right: view[
      int((10 - ahead) * 5), int((right + 10) * 5), 0]
  assert names[at(9, 0)] == "Front" and names[at(-9, 0)] == "Back"
  assert names[at(6, 8)] == "Front Right" and names[at(6, -8)] == "Front Left"
  assert names[at(-3, 8)] == "Back Right" and names[at(-3, -8)] == "Back Left"
  assert at(0.5, 0) == 255  # under the car


def strip_titles(window):
  """{camera: what the strip says of it}."""
  pictures = {name: np.zeros((18, 32, 3), np.uint8) for name in projection.RIG}
  titles = [axes.get_title() for axes in scenes.draw(pictures, window).axes]
  return {title.split(":")[0]: title for title in titles
          if title.split(":")[0] in projection.RIG}


@pytest.mark.parametrize("view, label, want", [
    (0, 2, {"Front Left": "chosen", "Back": "label"}),
    (4, 4, {"Back Right": "chosen, label"}), (-1, -1, {})])
def test_the_strip_marks_choice_and_label(whole, view, label, want):
  predictions = np.load(whole / "predictions.npz")
  window = {name: predictions[name][0] for name in predictions.files
            if name != "data_root"}
  got = strip_titles(window | {"view": view, "camera": label, "title": ""})
  assert set(got) == set(projection.RIG)
  assert {name: title.split(": ")[1] for name, title in got.items()
          if ":" in title} == want


def closed_loop(folder, step=7, count=4):
  """Writes a run's closed_loop.json: half of the drives went wrong."""
  found = summary.summarise(drove.RECORDS[:count], drove.WANTED[:count])
  (folder / "closed_loop.json").write_text(json.dumps({
      "seeds": [20000, 20001], "checkpoint_step": step,
      "drivers": {"model": found, "blind": found}}))


def test_drives_and_their_film_are_on_the_page(run):
  closed_loop(run)
  Image.new("RGB", (8, 8)).save(run / "film.gif")
  report.write([str(run)], str(run / "report.html"))
  text = (run / "report.html").read_text()
  page = Outside()
  page.feed(text)
  assert not page.fetched and not page.stack
  film = re.search(r'src="data:image/gif;base64,([^"]+)"', text)[1]
  assert base64.b64decode(film) == (run / "film.gif").read_bytes()
  assert text.index("Driving in the miniworld") < text.index("<h2>Training")
  # By hand: scores 100, 60, 100, 0; the first and the third are successes.
  for words in ("not Bench2Drive's", "the model", "sees nobody",
                "all (n=4)</td><td>65 [50, 80] / 50 %", "merging (n=2)",
                "collisions vehicle 1", "intervals over 2 seeds"):
    assert words in text, words


def test_drives_and_film_stand_alone(tmp_path):
  assert drives.section(str(tmp_path), 7) == ""
  closed_loop(tmp_path, step=6, count=2)
  text = drives.section(str(tmp_path), 7)
  assert "<img" not in text and "[" not in text  # one seed: no interval
  assert "too few" in text and "2 drives of each driver" in text
  assert "step 6, while the rest of this page is about step 7" in text
  assert "while the rest" not in drives.section(str(tmp_path), 6)
  (tmp_path / "closed_loop.json").unlink()
  Image.new("RGB", (8, 8)).save(tmp_path / "film.gif")
  text = drives.section(str(tmp_path), 7)
  assert "<img" in text and "<table" not in text


@pytest.mark.parametrize("name, content", [
    ("closed_loop.json", "{"), ("closed_loop.json", '{"drivers": {}}'),
    ("closed_loop.json", '{"drivers": {"model": {"episodes": 1}}}'),
    ("film.gif", ""), ("film.gif", "an MP4")])
def test_broken_drives_are_named(run, capsys, name, content):
  (run / name).write_text(content)
  assert command.main(["--workdir", str(run)]) == 3
  said = capsys.readouterr().err
  assert said.count("E-DATA") == 1 and name in said and "--closed-loop" in said
  assert not (run / "report.html").exists()


def test_drivers_of_other_skills_are_refused(tmp_path):
  closed_loop(tmp_path)
  path = tmp_path / "closed_loop.json"
  result = json.loads(path.read_text())
  del result["drivers"]["blind"]["per_skill"]["merging"]
  path.write_text(json.dumps(result))
  with pytest.raises(errors.DataError, match="other skills"):
    drives.section(str(tmp_path), 7)
