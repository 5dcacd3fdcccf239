"""The config.json with which transformers opens an exported PaliGemma."""

from drivemoe_jax.weights import names

_VISION = "img/Transformer/encoderblock"


def of(shapes, heads, dtype):
  """The file's content.

  Args:
    shapes: {path: shape} of our tree. heads: {"vision", "text", "kv"}.
    dtype: "float32" or "bfloat16".
  """
  rows, width = shapes[names.TABLE]
  patch, _, _, vision_width = shapes["img/embedding/kernel"]
  tokens = shapes["img/pos_embedding"][1]
  layers = {path: shape for path, shape in shapes.items()
            if path.startswith("llm/layers/")}
  depth = sum(shape[0] for path, shape in layers.items()
              if path.endswith("/mlp/linear"))
  of_leaf = lambda name: next(
      shape for path, shape in layers.items() if path.endswith(name))
  return {
      "architectures": ["PaliGemmaForConditionalGeneration"],
      "model_type": "paligemma", "torch_dtype": dtype, "hidden_size": width,
      "projection_dim": width, "image_token_index": names.table_rows(rows),
      "bos_token_id": 2, "eos_token_id": 1, "pad_token_id": 0,
      "tie_word_embeddings": True, "vocab_size": names.table_rows(rows),
      "text_config": {
          "model_type": "gemma", "hidden_size": width, "vocab_size": rows,
          "intermediate_size": of_leaf("/mlp/linear")[1],
          "num_hidden_layers": depth, "num_attention_heads": heads["text"],
          "num_key_value_heads": heads["kv"],
          "head_dim": of_leaf("/attn/q_einsum/w")[-1],
          "num_image_tokens": tokens, "rms_norm_eps": 1e-6,
          "rope_theta": 10000.0, "hidden_activation": "gelu_pytorch_tanh"},
      "vision_config": {
          "model_type": "siglip_vision_model", "hidden_size": vision_width,
          "intermediate_size":
              shapes[f"{_VISION}/MlpBlock_0/Dense_0/kernel"][-1],
          "num_hidden_layers":
              shapes[f"{_VISION}/MlpBlock_0/Dense_0/kernel"][0],
          "num_attention_heads": heads["vision"], "patch_size": patch,
          "image_size": patch * round(tokens ** 0.5), "projection_dim": width,
          "num_image_tokens": tokens, "vision_use_head": False}}
