"""The block mask and positions, against the picture in the module."""

import numpy as np

from drivemoe_jax.models import masks


def test_mask_is_the_picture():
  valid = np.array([[True, True, False]])
  got = np.asarray(masks.allowed(valid, history=1, horizon=2))[0].astype(int)
  want = [[1, 1, 0, 0, 0, 0],   # vlm sees unpadded vlm
          [1, 1, 0, 0, 0, 0],
          [0, 0, 0, 0, 0, 0],   # padding sees nothing
          [1, 1, 0, 1, 0, 0],   # proprio sees vlm and itself
          [1, 1, 0, 1, 1, 1],   # action sees everything unpadded
          [1, 1, 0, 1, 1, 1]]
  np.testing.assert_array_equal(got, want)


def test_each_stream_restarts_and_action_follows_proprio():
  at = masks.positions(tokens=4, history=2, horizon=3)
  assert at["vlm"].tolist() == [1, 2, 3, 4]
  assert at["proprio"].tolist() == [1, 2]
  assert at["action"].tolist() == [3, 4, 5]
