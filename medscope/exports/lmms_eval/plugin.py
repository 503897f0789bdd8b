"""What lmms-eval loads by the entry point `lmms_eval.models` (0.7: a manifest of model name and class path)."""

from lmms_eval.models.registry_v2 import ModelManifest

MANIFEST = ModelManifest("medscope", simple_class_path="medscope.exports.lmms_eval.model.MedScope")
