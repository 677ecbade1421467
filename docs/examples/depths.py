"""How deep do sentences run? Takes the newest run under the current folder.

dact finetune recipes/quickstart.yaml
python docs/examples/depths.py
"""

from dactcli import inspect, open_run, predict

SENTENCES = [
    "the key is rusty .",
    "the key to the cabinets is rusty .",
    "near the old boats , the keys to the cabinet of the doctors are rusty .",
]

run = open_run()
for sentence, answer in zip(SENTENCES, predict(SENTENCES, run=run), strict=True):
    print(f"{answer.exit_layer} layers  {answer.label:<14} {max(answer.probabilities):6.1%}  {sentence}")
(hardest,) = inspect(SENTENCES[-1:], run=run, verify=True)
print("full depth agrees" if hardest.full_label == hardest.label else "full depth disagrees")
