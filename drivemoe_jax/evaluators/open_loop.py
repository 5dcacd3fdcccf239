"""How far predicted waypoints lie from driven ones; pure numpy, float64.

Two families that must not be mixed: Euclidean errors in metres (per step, and
the Bench2Drive protocol's Avg L2, which needs the waypoint at 2 s), and the
release's own numbers (L1, squared error, share within a threshold), which keep
their official names. Index 0 of a trajectory is the present, always (0, 0).
Axes: M samples, H steps of 0.1 s, 2 = (forward, right).
"""

import numpy as np

from data_pipeline import errors

HZ = 10
PROTOCOL_INDEX = (5, 10, 15, 20)  # 0.5, 1.0, 1.5 and 2.0 s
APPROXIMATE_INDEX = (5, 10, 15, 19)  # all that a horizon of 20 can offer
THRESHOLDS = (0.05, 0.1, 0.2, 0.3, 0.5)

DEFINITIONS = {
    "error_at": "Euclidean error in metres at index k, that is k * 0.1 s from "
                "now (10 Hz), mean over samples; index 0 is the present",
    "error_mean_up_to": "mean of error_at[1..k]; the present does not count",
    "ade": "mean of error_at[1..horizon-1]",
    "fde": "error_at[horizon-1], at (horizon-1) * 0.1 s",
    "avg_l2": "mean of error_at[5, 10, 15, 20] (0.5 to 2.0 s at 2 Hz), "
              "Bench2Drive's protocol; absent when index 20 does not exist",
    "protocol": "the two readings of 'L2 at 2 s' in the literature, over the "
                "same windows: `at` each of 0.5, 1.0, 1.5 and 2.0 s, and "
                "`mean_up_to` it, the mean of the errors so far at 2 Hz; the "
                "last of these is avg_l2",
    "l2_1.9s_approx": "mean of error_at[5, 10, 15, 19]; not the protocol",
    "official_l1": "mean |dx|, |dy| in metres with index 0, mean over batches "
                   "of which a short last one counts as much as any",
    "official_mse": "the release's 'l2 loss': mean dx^2, dy^2 in square "
                    "metres, averaged like official_l1",
    "official_accuracy": "share of (sample, step) pairs, index 0 included, "
                         "whose |dx| and |dy| are both strictly below the "
                         "threshold in normalised units, averaged alike",
}


def step_errors(pred, gt):
  """Euclidean distance of each waypoint: [M,H,2] twice, metres -> [M,H]."""
  pred, gt = np.asarray(pred, np.float64), np.asarray(gt, np.float64)
  if pred.shape != gt.shape or pred.ndim != 3 or pred.shape[2] != 2:
    raise ValueError(f"predictions {pred.shape} and truth {gt.shape} must "
                     "both be [samples, horizon, 2]")
  return np.linalg.norm(pred - gt, axis=-1)              # [M,H]


def avg_l2(pred, gt, idx=PROTOCOL_INDEX):
  """Mean over samples of the mean error at `idx`: Bench2Drive's Avg L2.

  Args:
    pred, gt: [M,H,2] metres.
    idx: the protocol's time indices at 10 Hz.

  Raises:
    ConfigError: the horizon does not hold every index (data.md: horizon 21).
  """
  errors_at = step_errors(pred, gt)
  if max(idx) >= errors_at.shape[1]:
    raise errors.ConfigError(
        f"Avg L2 needs index {max(idx)} ({max(idx) / HZ} s), but the horizon "
        f"is {errors_at.shape[1]} waypoints; train with horizon="
        f"{max(idx) + 1}, or read ade and fde")
  return float(errors_at[:, list(idx)].mean(1).mean())


def protocol(pred, gt):
  """Both readings of Bench2Drive's errors at 2 Hz: [M,H,2] metres twice.

  Returns:
    {seconds, at, mean_up_to: [4]}; UniAD reports the first kind of error, VAD
    the second, and Avg L2 is the last of the second.
  """
  at = step_errors(pred, gt)[:, list(PROTOCOL_INDEX)].mean(0)  # [4]
  return {"seconds": [k / HZ for k in PROTOCOL_INDEX], "at": at.tolist(),
          "mean_up_to": (np.cumsum(at) / np.arange(1, len(at) + 1)).tolist()}


def summary(pred, gt):
  """Every Euclidean number that this horizon can honestly give.

  Args:
    pred, gt: [M,H,2] metres.

  Returns:
    {n, ade, fde, error_at [H], error_mean_up_to [H]} plus `avg_l2` and
    `protocol` {seconds, at, mean_up_to: [4]} from horizon 21 on, or
    `l2_1.9s_approx` at horizon 20. None where M is 0.
  """
  errors_at = step_errors(pred, gt)                      # [M,H]
  if not len(errors_at):
    return None
  at = errors_at.mean(0)                                 # [H]
  steps = np.arange(1, len(at))
  result = {
      "n": len(errors_at),
      "ade": float(at[1:].mean()),
      "fde": float(at[-1]),
      "error_at": at.tolist(),
      "error_mean_up_to": [float(at[0]), *(np.cumsum(at[1:]) / steps).tolist()],
  }
  if len(at) > max(PROTOCOL_INDEX):
    result["avg_l2"] = avg_l2(pred, gt)
    result["protocol"] = protocol(pred, gt)
  elif len(at) == max(PROTOCOL_INDEX):
    result["l2_1.9s_approx"] = avg_l2(pred, gt, APPROXIMATE_INDEX)
  return result


def ade(pred, gt):
  """Mean error over samples and the steps after now; None without samples."""
  whole = summary(pred, gt)
  return whole and whole["ade"]


def official(pred, gt, pred_normalised, gt_normalised, batch_size):
  """The release's numbers: mean over batches in order, unequal last included.

  Args:
    pred, gt: [M,H,2] metres.
    pred_normalised, gt_normalised: the same in training units.
    batch_size: the release's evaluation batch; it changes these numbers.

  Returns:
    {official_l1, official_mse, official_accuracy{threshold: share},
    official_batch_size}; None where M is 0.
  """
  if not len(pred):
    return None
  off = np.abs(np.asarray(pred, np.float64) - gt)        # [M,H,2]
  off_normalised = np.abs(np.asarray(pred_normalised, np.float64)
                          - gt_normalised).max(-1)       # [M,H]

  def over_batches(values):
    starts = range(0, len(values), batch_size)
    return float(np.mean([values[i:i + batch_size].mean() for i in starts]))

  return {
      "official_l1": over_batches(off),
      "official_mse": over_batches(off**2),
      "official_accuracy": {
          str(limit): over_batches(off_normalised < limit)
          for limit in THRESHOLDS},
      "official_batch_size": batch_size,
  }
