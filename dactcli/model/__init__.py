"""The model core. Importing this package registers DACT with transformers' Auto classes."""

from transformers import AutoConfig, AutoModelForSequenceClassification

from dactcli.model.dact import DactConfig, DactForSequenceClassification, DactOutput

AutoConfig.register("dact", DactConfig, exist_ok=True)
AutoModelForSequenceClassification.register(DactConfig, DactForSequenceClassification, exist_ok=True)

__all__ = ["DactConfig", "DactForSequenceClassification", "DactOutput"]
