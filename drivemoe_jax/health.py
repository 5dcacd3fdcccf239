"""Warnings about a run whose numbers are finite and yet not well.

Loss spikes, skill experts that nobody picks, routers that collapsed onto one
choice, plans out of range. Each looks at the metrics of every update, starts
anew with the process, and is said at most once in a while. What is not finite
is the step's business: such updates are skipped and count for nothing here.
Axes: E skill experts, V candidate views, C classes of either, M windows.
"""

import collections
import math

import numpy as np

from data_pipeline import safety, spec

# One router serves all layers with experts, as released, so that each of these
# holds for every such layer.
VECTORS = {"expert_load": spec.Skill, "expert_weight": spec.Skill,
           "skill_share": spec.Skill, "camera_share": spec.Camera}
LABELS = ("camera_labels", "skill_labels")
TERMS = ("loss_action", "loss_camera_weighted", "loss_skill_weighted")

PAUSE = 500          # updates before the same warning is said again
SPIKE_WINDOW = 100   # updates that a loss is compared with,
SPIKE_LEAST = 20     # and how many there must be
SPIKE_DEVIATIONS = 8.0
COLLAPSED = 0.05     # nats: 99 % of the probability on one choice of two
DIVERSE = 0.3        # nats: labels of 91 % and 9 %
MOST_OUTSIDE = 0.05  # percentiles 1 and 99 leave 2 % outside
MOST_ESTIMATED = 0.15  # 6 % in a healthy run of tiny


class Warnings:
  """Says each warning, but not all the time, and hands it on to be kept."""

  def __init__(self, say, keep=lambda step, line: None, pause=PAUSE):
    """Args:
      say: prints a line. keep: (step, line) -> None.
      pause: updates for which a subject is not warned of again.
    """
    self._say, self._keep, self._pause = say, keep, pause
    self._said, self._muted = {}, collections.Counter()
    self.count = 0             # those that were muted included

  def __call__(self, step, code, subject, text):
    """Warns of `subject`, which rate limits are kept by."""
    self.count += 1
    if step - self._said.get(subject, -math.inf) < self._pause:
      self._muted[subject] += 1
      return
    muted = self._muted.pop(subject, 0)
    more = f" ({muted} more like it before)" if muted else ""
    line = f"{code}: step {step}: {text}{more}"
    self._said[subject] = step
    self._say(line)
    self._keep(step, line)


class Watch:
  """All that is looked at after an update."""

  def __init__(self, warn, *, window, spike):
    """Args:
      warn: Warnings.
      window: updates over which experts, routers and ranges are judged; 0
        leaves them alone.
      spike: factor over the usual loss that is worth a line; 0 for never.
    """
    self._warn = warn
    self._experts = Experts(window, warn)
    self._spike = Spike(spike, warn)
    self._means = Means(window, warn)

  def __call__(self, step, values):
    """Metrics of one update with a number per class in place of vectors.

    Args:
      values: metrics of step.make_train_step, on the host.

    Returns:
      `<vector>/<name>` for vectors, the other values unchanged, and
      `dead_experts`, `camera_spread`, `skill_spread` and `warnings`.
    """
    numbers = {k: x for k, x in values.items()
               if k not in VECTORS and k not in LABELS}
    for key in (k for k in VECTORS if k in values):  # a line's order is fixed
      x = np.asarray(values[key], np.float64)
      numbers |= {f"{key}/{name}": float(share)
                  for name, share in zip(names(key, len(x)), x)}
    if "expert_load" in values:
      numbers |= self._experts(step, np.asarray(values["expert_load"]))
    for router in ("camera", "skill"):
      if f"{router}_share" in values:
        numbers[f"{router}_spread"] = math.exp(
            entropy(values[f"{router}_share"]))
    self._spike(step, values)
    self._means(step, values)
    return numbers | {"warnings": self._warn.count}


class Experts:
  """Counts the updates for which each expert has not been picked."""

  def __init__(self, window, warn):
    """window: updates without a pick that make an expert dead, 0 for never."""
    self._window, self._warn, self._idle = window, warn, None

  def __call__(self, step, load):                        # [E]
    """{"dead_experts": number}, or nothing without a window."""
    if not self._window:
      return {}
    if self._idle is None:
      self._idle = np.zeros(len(load), int)
    if np.isfinite(load).all():  # else the update was skipped
      self._idle = np.where(load > 0, 0, self._idle + 1)
      for expert in np.flatnonzero(self._idle == self._window):
        name = names("expert_load", len(load))[expert]
        self._warn(
            step, "W-MOE", f"expert {expert}",
            f"skill expert {expert} ({name}) got no pick for {self._window} "
            "updates and learns nothing; look at its labels, or set "
            "data.skill_balance")
    return {"dead_experts": int((self._idle >= self._window).sum())}


class Spike:
  """Compares the loss with its median over the last updates."""

  def __init__(self, factor, warn):
    self._factor, self._warn = factor, warn
    self._past = collections.deque(maxlen=SPIKE_WINDOW)

  def __call__(self, step, values):
    """Warns where the loss is `factor` times the median, and its logarithm
    SPIKE_DEVIATIONS deviations above; the deviation is taken from the median
    distance to the median, which no spike can move."""
    terms = {k: float(values[k]) for k in ("loss", *TERMS) if k in values}
    if not self._factor or not all(map(math.isfinite, terms.values())):
      return
    if len(self._past) >= SPIKE_LEAST:
      usual = {k: float(np.median([p[k] for p in self._past])) for k in terms}
      distance = np.abs(np.log([_positive(p["loss"]) for p in self._past])
                        - math.log(_positive(usual["loss"])))
      spread = 1.4826 * float(np.median(distance))  # of a normal distribution
      ratio = _positive(terms["loss"]) / _positive(usual["loss"])
      if ratio > self._factor and math.log(ratio) > SPIKE_DEVIATIONS * spread:
        self._warn(step, "W-LOSS", "loss", _cause(terms, usual, ratio, values))
    self._past.append(terms)


def _cause(terms, usual, ratio, values):
  """Which term drove the loss up, in a line."""
  grown = max((k for k in TERMS if k in terms), default="loss",
              key=lambda k: terms[k] - usual[k])
  return (f"loss {terms['loss']:.4g} is {ratio:.1f} times its median of the "
          f"last {SPIKE_WINDOW} updates; {grown} grew most, from "
          f"{usual[grown]:.4g} to {terms[grown]:.4g}, gradient norm "
          f"{float(values['grad_norm']):.3g}, lr {float(values['lr']):.2g}. "
          "If the frames in warnings.jsonl are fine, lower the learning rate")


class Means:
  """Means over one window of updates after the other, and what they tell."""

  def __init__(self, window, warn):
    self._window, self._warn = window, warn
    self._sums, self._count, self._before = {}, 0, math.inf

  def __call__(self, step, values):
    keys = [k for k in ("camera_share", "skill_share", *LABELS,
                        "action_outside", "estimate_outside") if k in values]
    found = {k: np.asarray(values[k], np.float64) for k in keys}
    if not self._window or not all(
        np.isfinite(x).all() for x in found.values()):
      return
    self._sums = {k: self._sums.get(k, 0.0) + x for k, x in found.items()}
    self._count += 1
    if self._count == self._window:
      means = {k: x / self._count for k, x in self._sums.items()}
      self._sums, self._count = {}, 0
      for router in ("camera", "skill"):
        if f"{router}_share" in means:
          self._collapse(step, router, means)
      if "action_outside" in means:
        self._range(step, means)

  def _collapse(self, step, router, means):
    share, labels = means[f"{router}_share"], means.get(f"{router}_labels")
    if entropy(share) >= COLLAPSED or (
        labels is not None and entropy(labels) <= DIVERSE):
      return
    most = int(share.argmax())
    name = names(f"{router}_share", len(share))[most]
    told = "" if labels is None else f", its labels {labels[most]:.1%},"
    self._warn(
        step, "W-MOE", f"{router} router",
        f"the {router} router collapsed: it gave {share[most]:.1%} of its "
        f"probability{told} to {name} for {self._window} updates; raise "
        f"loss.{router} or lower the learning rate")

  def _range(self, step, means):
    data, model = means["action_outside"], means["estimate_outside"]
    if data > MOST_OUTSIDE:
      self._warn(
          step, "W-ACT", "data", f"{data:.1%} of the recorded coordinates of "
          f"{self._window} updates lie beyond flow.clip, where no plan can "
          "reach; about 2 % should: check the statistics with launch.normalize")
    # While it learns, a model comes in range by itself.
    if model > max(MOST_ESTIMATED, 2 * data) and model > self._before / 2:
      self._warn(
          step, "W-ACT", "model", f"{model:.1%} of the model's coordinates of "
          f"{self._window} updates lie beyond flow.clip, {data:.1%} of the "
          "recorded ones; lower the learning rate")
    self._before = model


def check_plans(windows, statistics, clip, warn):
  """Warns of recorded plans that no car can drive or no model can reach.

  Args:
    windows: windows.Windows, all samples of a split [M].
    statistics: normalize.Statistics. clip: as in the sampler, normalised.
    warn: Warnings.
  """
  low, high = statistics.bounds("action")                # [2]
  centre, half = (low + high) / 2, (high - low) / 2
  beyond = np.abs(windows.action - centre) > clip * half  # [M,R,2]
  if beyond.mean() > MOST_OUTSIDE:
    worst = int(np.abs((windows.action - centre) / half).max((1, 2)).argmax())
    x, y = np.abs(windows.action[worst]).max(0)
    warn(0, "W-ACT", "data", f"{beyond.mean():.1%} of the recorded coordinates "
         f"lie beyond flow.clip {clip:g}, where no plan can reach, about 2 % "
         f"should. Farthest: {_place(windows, worst)}, {x:.1f} m ahead and "
         f"{y:.1f} m aside; check the statistics with launch.normalize")
  first = 1 if windows.drop_current_point else 0
  odd = safety.implausible(windows.action, windows.proprio[:, -1, 0],
                           first_row=first)              # [M]
  if (odd != "").any():
    where = np.flatnonzero(odd != "")
    warn(0, "W-ACT", "plans", f"{len(where)} of {len(windows)} recorded plans "
         f"are none a car can drive. First: {_place(windows, where[0])}: "
         f"{odd[where[0]]}; look at its annotations")


def names(key, count):
  """Names of the classes of a vector, where there is one for each."""
  classes = VECTORS[key]
  if count == len(classes):
    return [c.name.lower() for c in classes]
  return [str(i) for i in range(count)]


def entropy(share):                                      # [C] -> float
  """In nats: 0 where all lies on one class, log C where it is even."""
  share = np.asarray(share, np.float64)
  share = share[share > 0]
  return float(-(share * np.log(share)).sum())


def _positive(x):
  return max(x, 1e-12)


def _place(windows, index):
  name = windows.routes[windows.route_index[index]]
  return f"{name}/{windows.frame[index]:05d}"
