"""dact: BERT-like encoders that run only as many layers as each answer needs."""
