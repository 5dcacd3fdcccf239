"""Loss terms worked out by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drivemoe_jax import losses

LOGITS = jnp.log(jnp.array([[0.5, 0.25, 0.25], [0.2, 0.7, 0.1]]))
OUT = {"camera_logits": LOGITS, "skill_logits": LOGITS[:, None],
       # the best two of three, and a shared expert
       "skill_weights": jnp.array([[[2 / 3, 1 / 3, 0, 1]],
                                   [[2 / 9, 7 / 9, 0, 1]]])}
LABEL = jnp.array([0, 2])
WEIGHTS = {"action": 2.0, "camera": 10.0, "skill": 3.0}
ALPHAS = {"camera": (1.0, 2.0, 4.0), "skill": (1.0, 1.0, 1.0)}


def total(out=OUT, camera=LABEL, skill=LABEL, **kw):
  velocity, target = jnp.zeros((2, 2, 2)), jnp.full((2, 2, 2), 3.0)
  return losses.total(velocity, target, out, camera, skill, weights=WEIGHTS,
                      alphas=ALPHAS, **kw)


def test_focal_by_hand():
  # (1 * 0.5^2 * ln 2 + 4 * 0.9^2 * ln 10) / 2
  want = (0.25 * np.log(2) + 4 * 0.81 * np.log(10)) / 2
  got = losses.focal(LOGITS, LABEL, ALPHAS["camera"])
  np.testing.assert_allclose(got, want, rtol=1e-6)


def test_focal_with_gamma_zero_is_weighted_cross_entropy():
  got = losses.focal(LOGITS, LABEL, ALPHAS["camera"], gamma=0.0)
  np.testing.assert_allclose(got, (np.log(2) + 4 * np.log(10)) / 2, rtol=1e-6)


def test_total_names_and_weighs_every_term():
  loss, m = total()
  np.testing.assert_allclose(m["loss_action"], 9.0)
  np.testing.assert_allclose(m["loss_camera_weighted"], 10 * m["loss_camera"])
  np.testing.assert_allclose(
      loss, 18.0 + 10 * m["loss_camera"] + 3 * m["loss_skill"], rtol=1e-6)
  assert m["camera_accuracy"] == 0.5


@pytest.mark.parametrize("name", ["camera", "skill"])
def test_a_missing_label_set_skips_its_term(name):
  loss, m = total(**{name: None})
  assert f"loss_{name}" not in m
  assert loss < total()[0]


def test_without_routers_the_total_is_the_plain_action_loss():
  loss, m = total({"camera_logits": None, "skill_logits": None})
  assert loss == 9.0 and set(m) == {"loss", "loss_action"}


def test_per_token_scores_tokens_and_agrees_where_they_are_equal():
  same = {**OUT, "skill_logits": jnp.tile(LOGITS[:, None], (1, 4, 1))}
  np.testing.assert_allclose(total(same)[0], total(same, skill_loss="per_token")
                             [0], rtol=1e-6)
  spread = same["skill_logits"] + jnp.array([1., -1., 1., -1.])[:, None] * (
      jnp.array([1., 0., 0.]))
  mixed = {**OUT, "skill_logits": spread}
  np.testing.assert_allclose(total(mixed)[0], total(same)[0], rtol=1e-6)
  assert abs(total(mixed, skill_loss="per_token")[0] - total(same)[0]) > 1e-3


def test_routing_by_hand():
  m = total()[1]
  np.testing.assert_allclose(m["expert_load"], [0.5, 0.5, 0.0])
  np.testing.assert_allclose(m["expert_weight"], [4 / 9, 5 / 9, 0], rtol=1e-6)
  entropy = -(0.5 * np.log(0.5) + 0.5 * np.log(0.25) + 0.2 * np.log(0.2)
              + 0.7 * np.log(0.7) + 0.1 * np.log(0.1)) / 2
  np.testing.assert_allclose(m["routing_entropy"], entropy, rtol=1e-6)
  per_token = total(OUT | {
      "skill_logits": jnp.tile(LOGITS[:, None], (1, 2, 1)),
      "skill_weights": jnp.array([[[1.0, 0, 0, 1], [0, 0, 1.0, 1]]] * 2)})[1]
  np.testing.assert_allclose(per_token["expert_load"], [0.5, 0.0, 0.5])


def test_what_is_only_reported_has_no_gradient():
  def sure(logits):
    return losses.routing(logits, jax.nn.softmax(logits))["routing_entropy"]
  assert not jax.grad(sure)(LOGITS[:, None]).any()


def test_shares_of_a_router_and_of_its_labels_by_hand():
  m = total()[1]
  np.testing.assert_allclose(m["skill_share"], [0.35, 0.475, 0.175], rtol=1e-6)
  for name in ("camera_labels", "skill_labels"):
    np.testing.assert_allclose(m[name], [0.5, 0.0, 0.5])
  np.testing.assert_allclose(m["camera_share"], m["skill_share"])
  one = jnp.array([[0.0, -100.0], [-100.0, 0.0]])
  share, entropy = losses.sureness(one)
  np.testing.assert_allclose(share, [0.5, 0.5])
  np.testing.assert_allclose(entropy, 0.0, atol=1e-6)


def test_unknown_skill_loss_is_refused():
  with pytest.raises(ValueError, match="median"):
    total(skill_loss="median")


def test_gradient_stays_finite_for_a_sure_and_right_router():
  sure = jnp.array([[80.0, 0.0, 0.0]])
  grad = jax.grad(lambda x: losses.focal(x, jnp.array([0]), ALPHAS["camera"]))
  assert np.isfinite(grad(sure)).all()
