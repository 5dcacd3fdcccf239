"""The scores of evaluation.json as text for a terminal."""

from drivemoe_jax.evaluators import subsets

NAMES = {"constant_velocity": "constant velocity",
         "ego_mlp": "ego-state-only MLP"}


def table(scores):
  """Every method on every subset, the routers, and the claims in words."""
  lines = [_intro(scores), "", f"{'ADE / FDE [m]':34}" + "".join(
      f"{name:>20}" for name in scores["open_loop"]["subsets"])]
  methods = {"model": scores["open_loop"]} | {
      NAMES[name]: part["open_loop"]
      for name, part in scores["yardsticks"].items()}
  shuffled = scores["shuffled_images"]
  if shuffled:
    methods["model, shuffled images"] = shuffled["open_loop"]
  for name, part in methods.items():
    lines.append(f"{name:34}" + "".join(
        (f"{p['ade']:.3f} / {p['fde']:.3f}" if p else "-").rjust(20)
        for p in part["subsets"].values()))
  lines.append(f"{'windows':34}" + "".join(
      f"{p['n'] if p else 0:>20}"
      for p in scores["open_loop"]["subsets"].values()))
  return "\n".join([*lines, "", *_protocol(methods, scores["horizon"]), "",
                    *_routers(scores), *_comparisons(scores)])


def _intro(scores):
  """Which windows, and the horizon's own name for its average."""
  model = scores["open_loop"]
  line = (f"evaluate: step {scores['step']}, {scores['n']} {scores['split']} "
          f"windows of {scores['routes']} routes, {scores['horizon']} "
          f"waypoints at {scores['hz']} Hz, windows "
          f"{scores['windows_sha256'][:12]}")
  for name in ("avg_l2", "l2_1.9s_approx"):
    if name in model:
      line += f", {name} {model[name]:.3f} m"
  return line


def _protocol(methods, horizon):
  """Bench2Drive's errors at 2 Hz, each time read in both ways."""
  parts = {name: part["protocol"] for name, part in methods.items()
           if "protocol" in part}
  if not parts:
    yield (f"no Avg L2: it needs the waypoint at 2.0 s, horizon 21, and this "
           f"run has {horizon} waypoints (configs/open_loop.py)")
    return
  seconds = next(iter(parts.values()))["seconds"]
  yield f"{'L2 at 2 Hz [m]':34}" + "".join(
      f"{f'{t} s':>10}" for t in seconds) + f"{'Avg L2':>10}"
  for name, part in parts.items():
    for reading in ("at", "mean_up_to"):
      label = f"{name}, {reading.replace('_', ' ')} t"
      # The mean over all times is, read the second way, there already.
      last = f"{part['mean_up_to'][-1]:10.4f}" if reading == "at" else ""
      yield (f"{label:34}" + "".join(f"{e:10.4f}" for e in part[reading])
             + last)


def _routers(scores):
  """One line for each router."""
  for name, part in scores["routers"].items():
    if part is None:
      yield f"{name} router: none, or no labels"
    else:
      yield (f"{name} router: accuracy {part['accuracy']:.3f}, macro F1 "
             f"{part['macro_f1']:.3f} over labelled classes, "
             f"{part['official_macro_f1']:.3f} over all")


def _comparisons(scores):
  """The claims: against blind drivers, and without the right images."""
  subset = subsets.CRITICAL
  model = scores["open_loop"]["subsets"]
  yardsticks = scores["yardsticks"]
  yield (f"ADE {model['all']['ade']:.3f} m vs constant velocity "
         f"{yardsticks['constant_velocity']['open_loop']['ade']:.3f} m "
         f"({-yardsticks['constant_velocity']['model_lower_by_percent']:+.1f} "
         "%)")
  if model[subset]:
    mlp = yardsticks["ego_mlp"]
    yield (f"ADE where it turns or begins to brake {model[subset]['ade']:.3f} "
           "m vs ego-state-only MLP "
           f"{mlp['open_loop']['subsets'][subset]['ade']:.3f} m "
           f"({mlp['model_ratio'][subset]:.2f} of it)")
  else:
    yield "no window turns or begins to brake: comparing all windows"
    subset = "all"
  shuffled = scores["shuffled_images"]
  if shuffled is None:
    yield "shuffled images: not possible, one route holds most windows"
    return
  drops = ", ".join(
      f"{name} router {-drop:+.1f} points"
      for name, drop in shuffled["accuracy_drop_points"].items()
      if drop is not None)
  yield (f"with shuffled images: ADE ({subset}) "
         f"{shuffled['ade_increase_percent'][subset]:+.1f} %"
         + (f", {drops}" if drops else ""))
